package qemu

import (
	"context"
	"fmt"
	"net"
	"sync"
	"time"

	"carrel/internal/deskline"
	"carrel/internal/driver"
	"carrel/internal/ident"
)

const (
	// sessionPort is the name of the port on which the session in the guest speaks (internal/deskline).
	sessionPort = "org.carrel.session"
	// sessionHardware is the hardwareVersion from which on machines have it.
	sessionHardware = 2
	// sessionRate is how many bytes a second a guest may say there for long, and sessionBurst at once: a text of the longest kind.
	sessionRate, sessionBurst = 256 << 10, 512 << 10
	// sessionPatience is how long a guest, or whoever listens to it, may take for one line.
	sessionPatience = 2 * time.Second
)

// port is our end of a guest's session port. It is always read, so that nobody in the guest waits for a person to look; whoever is joined gets
// every line, and what they say goes to the guest line by line. What the lines mean is not this process's affair.
type port struct {
	conn net.Conn
	// writing is held while a line goes to the guest; torn: the last one did not go whole.
	writing sync.Mutex
	torn    bool

	mu      sync.Mutex
	joined  map[net.Conn]bool
	over    bool
	spent   int
	refresh time.Time
}

func newPort(conn net.Conn) *port {
	// What an earlier host role has said last may not have gone whole.
	p := &port{conn: conn, torn: true, joined: map[net.Conn]bool{}}
	go p.listen() // Ends with the connection, which close or the machine's end closes.
	return p
}

func (p *port) listen() {
	r := deskline.NewReader(slowly{p})
	for {
		line, err := r.Next()
		if err != nil {
			break
		}
		line = append(line[:len(line):len(line)], '\n')
		for _, c := range p.audience() {
			if write(c, line) != nil {
				p.leave(c)
			}
		}
	}
	p.mu.Lock()
	p.over = true
	p.mu.Unlock()
	for _, c := range p.audience() {
		p.leave(c)
	}
}

func (p *port) audience() []net.Conn {
	p.mu.Lock()
	defer p.mu.Unlock()
	all := make([]net.Conn, 0, len(p.joined))
	for c := range p.joined {
		all = append(all, c)
	}
	return all
}

func (p *port) leave(c net.Conn) {
	p.mu.Lock()
	delete(p.joined, c)
	p.mu.Unlock()
	_ = c.Close()
}

// join gives a new listener's end.
func (p *port) join() (net.Conn, error) {
	theirs, ours := net.Pipe()
	p.mu.Lock()
	over := p.over
	if !over {
		p.joined[ours] = true
	}
	p.mu.Unlock()
	if over {
		return nil, driver.ErrUnavailable
	}
	go func() { // Ends with the listener's connection, which it or the end of the port closes.
		defer p.leave(ours)
		for r := deskline.NewReader(ours); ; {
			line, err := r.Next()
			if err != nil {
				return
			}
			p.say(line)
		}
	}()
	return theirs, nil
}

// say passes a line to the guest. One that it does not take is lost, as everything is in a guest where nobody listens.
func (p *port) say(line []byte) {
	p.writing.Lock()
	defer p.writing.Unlock()
	out := make([]byte, 0, len(line)+2)
	if p.torn {
		out = append(out, '\n')
	}
	p.torn = write(p.conn, append(append(out, line...), '\n')) != nil
}

func write(c net.Conn, b []byte) error {
	if err := c.SetWriteDeadline(time.Now().Add(sessionPatience)); err != nil {
		return err
	}
	_, err := c.Write(b)
	return err
}

func (p *port) close() error { return p.conn.Close() }

// slowly reads a port no faster than a person copies: a guest that talks all the time waits, and costs nobody else anything.
type slowly struct{ p *port }

func (s slowly) Read(b []byte) (int, error) {
	n, err := s.p.conn.Read(b)
	p, now := s.p, time.Now()
	p.spent = max(0, p.spent-int(min(now.Sub(p.refresh).Seconds(), 10)*sessionRate)) + n
	p.refresh = now
	if over := p.spent - sessionBurst; over > 0 {
		time.Sleep(time.Duration(over) * time.Second / sessionRate)
	}
	return n, err
}

// Session opens a connection to whatever speaks for the person's session in the guest.
func (d *Driver) Session(_ context.Context, id ident.WorkspaceID) (net.Conn, error) {
	m, err := d.running(id)
	if err != nil {
		return nil, fmt.Errorf("session of %s: %w", id, err)
	}
	if m.live.session == nil {
		return nil, fmt.Errorf("session of %s: its machine has no port for it: %w", id, driver.ErrUnavailable)
	}
	conn, err := m.live.session.join()
	if err != nil {
		return nil, fmt.Errorf("session of %s: %w", id, err)
	}
	return conn, nil
}
