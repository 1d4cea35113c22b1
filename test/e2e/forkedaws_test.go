package e2e

import (
	bytesof "encoding/binary"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/rogpeppe/go-internal/testscript"
)

const (
	// realAWS holds the path of the AWS CLI that is installed, awsSocket that of the process that has read its modules, if there is one.
	realAWS   = "CARREL_AWS"
	awsSocket = "CARREL_AWS_SOCKET"
	// scriptHome is every script's HOME. The CLI's modules look up some places in it as they are read: a call with another HOME starts the CLI itself.
	scriptHome = "/no-home"
)

// TestMain puts a program "aws" before the real one, which has the real one's main called in a process that has its modules in memory already: most of a call's
// time is reading them. See awsfork/sitecustomize.py.
func TestMain(m *testing.M) {
	if path, err := exec.LookPath("aws"); err == nil && os.Getenv(realAWS) == "" {
		if err := os.Setenv(realAWS, path); err != nil {
			panic(err)
		}
	}
	testscript.Main(m, map[string]func(){"aws": func() { os.Exit(aws()) }})
}

// serveAWS starts the process that runs the AWS CLI's calls, and gives its socket; none if this CLI can not be served so.
func serveAWS(t *testing.T) string {
	t.Helper()
	path := os.Getenv(realAWS)
	if path == "" {
		t.Fatal("the AWS CLI is missing: apt install awscli")
	}
	modules, err := filepath.Abs("awsfork")
	if err != nil {
		t.Fatal(err)
	}
	socket := filepath.Join(t.TempDir(), "aws.sock")
	c := exec.Command(path, "--version")
	c.Env = append(os.Environ(), "PYTHONPATH="+modules, "PYTHONDONTWRITEBYTECODE=1", "HOME="+scriptHome, "CARREL_AWS_SERVE="+socket)
	c.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
	if err := c.Start(); err != nil {
		t.Fatal(err)
	}
	done := make(chan struct{})
	go func() {
		_ = c.Wait() // an end is an answer too: this CLI does not serve
		close(done)
	}()
	t.Cleanup(func() {
		_ = syscall.Kill(-c.Process.Pid, syscall.SIGKILL) // it may have ended
		<-done
	})
	for {
		if conn, err := net.Dial("unix", socket); err == nil {
			_ = conn.Close() // nothing was asked
			return socket
		}
		select {
		case <-done:
			t.Logf("%s does not serve: each call starts it", path)
			return ""
		case <-time.After(20 * time.Millisecond):
		}
	}
}

// aws is the program that the scripts call.
func aws() int {
	socket := os.Getenv(awsSocket)
	if socket == "" || os.Getenv("HOME") != scriptHome {
		path := os.Getenv(realAWS)
		err := syscall.Exec(path, append([]string{path}, os.Args[1:]...), os.Environ())
		fmt.Fprintf(os.Stderr, "%s: %v\n", path, err)
		return 126
	}
	code, err := askAWS(socket)
	if err != nil {
		fmt.Fprintln(os.Stderr, "aws:", err)
		return 125
	}
	return code
}

// askAWS hands one call over, with this process's standard files, and waits for its end.
func askAWS(socket string) (code int, err error) {
	conn, err := net.DialUnix("unix", nil, &net.UnixAddr{Name: socket, Net: "unix"})
	if err != nil {
		return 0, err
	}
	defer func() { err = errors.Join(err, conn.Close()) }()
	dir, err := os.Getwd()
	if err != nil {
		return 0, err
	}
	// Neither arguments nor the environment can hold a NUL.
	text := strings.Join(slices.Concat([]string{dir, strconv.Itoa(len(os.Args) - 1)}, os.Args[1:], os.Environ()), "\x00")
	head := bytesof.BigEndian.AppendUint32(nil, uint32(len(text)))
	if _, _, err := conn.WriteMsgUnix(head, syscall.UnixRights(0, 1, 2), nil); err != nil {
		return 0, err
	}
	if _, err := io.WriteString(conn, text); err != nil {
		return 0, err
	}
	if _, err := io.ReadFull(conn, head); err != nil {
		return 0, fmt.Errorf("the AWS CLI ended without an exit code: %w", err)
	}
	return int(bytesof.BigEndian.Uint32(head)), nil
}
