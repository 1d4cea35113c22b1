package qmp

import (
	"bufio"
	"encoding/json"
	"fmt"
	"net"
	"strings"
	"sync"
	"testing"
)

const hello = `{"QMP": {"version": {"qemu": {"micro": 22, "minor": 2, "major": 7}, "package": "Debian"}, "capabilities": ["oob"]}}` + "\n"

type request struct {
	Execute   string          `json:"execute"`
	Arguments json.RawMessage `json:"arguments"`
	ID        *uint64         `json:"id"`
}

// monitor is a QEMU that behaves, but for what handle does: it gets each command after the negotiation and returns lines to send.
type monitor struct {
	conn   net.Conn
	handle func(request) []string
	wg     sync.WaitGroup
}

func startMonitor(t testing.TB, conn net.Conn, handle func(request) []string) *monitor {
	m := &monitor{conn: conn, handle: handle}
	m.wg.Go(m.run)
	t.Cleanup(func() { conn.Close(); m.wg.Wait() })
	return m
}

func (m *monitor) run() {
	defer m.conn.Close()
	if m.send(hello) != nil {
		return
	}
	in := bufio.NewReader(m.conn)
	negotiated := false
	for {
		line, err := in.ReadBytes('\n')
		if err != nil {
			return
		}
		q := parse(line)
		if q.ID == nil {
			_ = m.send(`{"error": {"class": "GenericError", "desc": "Invalid JSON syntax"}}` + "\n")
			continue
		}
		if !negotiated {
			negotiated = q.Execute == "qmp_capabilities"
			if m.send(returning(q, `{}`)) != nil {
				return
			}
			continue
		}
		for _, answer := range m.handle(q) {
			if m.send(answer) != nil {
				return
			}
		}
	}
}

// parse reads a command; without an id when it is none.
func parse(line []byte) (q request) {
	d := json.NewDecoder(strings.NewReader(string(line)))
	d.DisallowUnknownFields()
	if d.Decode(&q) != nil {
		return request{}
	}
	return q
}

func (m *monitor) send(s string) error { _, err := m.conn.Write([]byte(s)); return err }

func returning(q request, value string) string {
	return fmt.Sprintf(`{"return": %s, "id": %d}`, value, *q.ID) + "\r\n"
}

func refusing(q request, class, desc string) string {
	b, _ := json.Marshal(desc)
	return fmt.Sprintf(`{"id": %d, "error": {"class": %q, "desc": %s}}`, *q.ID, class, b) + "\r\n"
}

func event(name, data string) string {
	return fmt.Sprintf(`{"timestamp": {"seconds": 1700000000, "microseconds": 500000}, "event": %q, "data": %s}`, name, data) + "\r\n"
}
