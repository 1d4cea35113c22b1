package holder

import (
	"errors"
	"io"
	"os"
	"os/signal"
	"syscall"

	"golang.org/x/sys/unix"
)

// wordFile is the descriptor on which the process that is to hold the namespaces says that it is there, and is then told to.
const wordFile = 3

// Hold is the life of the process that holds the namespaces: it is in them, and does nothing until it is killed. It ends at once when whoever started
// it did before saying that it is written down somewhere: nobody would find it again.
func Hold() error {
	// A stop of the service or a closed terminal must not take desktops' networks away.
	signal.Ignore(syscall.SIGHUP, syscall.SIGINT, syscall.SIGTERM, syscall.SIGQUIT, syscall.SIGPIPE, syscall.SIGTSTP)
	f := os.NewFile(wordFile, "word")
	word := []byte{1}
	_, err := f.Write(word)
	if err == nil {
		_, err = io.ReadFull(f, word)
	}
	if err != nil {
		return errors.Join(errors.New("started by hand: it is started by carrel serve"), err)
	}
	if err := f.Close(); err != nil {
		return err
	}
	for {
		_ = unix.Pause()
	}
}
