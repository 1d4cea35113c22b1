package main

import (
	"fmt"
	"io"
	"os"
	"path/filepath"

	"github.com/spf13/cobra"

	"carrel/internal/app"
	"carrel/internal/durable"
	"carrel/internal/operator"
)

func newBackup(g *global) *cobra.Command {
	return &cobra.Command{
		Use:   "backup FILE",
		Short: "Write a backup of the running installation's records",
		Long: `Writes all records as of one moment, with a checksum. The file holds access keys' secrets: it is made with mode 0600. It does not hold
the certificate authority, the audit log or the evidence log: copy DIR/pki, DIR/audit and DIR/evidence beside it.`,
		Example: "  carrel backup --state ./state carrel-backup.jsonl",
		Args:    cobra.ExactArgs(1),
		RunE: func(c *cobra.Command, args []string) error {
			if err := writeWhole(args[0], func(w io.Writer) error { return operator.Dial(g.state).Backup(c.Context(), w) }); err != nil {
				return err
			}
			return g.print(c.OutOrStdout(), map[string]string{"file": args[0]}, func(w io.Writer) { fmt.Fprintf(w, "written: %s\n", args[0]) })
		},
	}
}

// writeWhole makes a file that is either whole and durable or not there. It refuses to replace one.
func writeWhole(path string, write func(io.Writer) error) (err error) {
	if _, err := os.Stat(path); err == nil {
		return fmt.Errorf("%s exists: a backup never replaces a file", path)
	}
	f, err := os.CreateTemp(filepath.Dir(path), ".carrel-backup-*")
	if err != nil {
		return err
	}
	defer func() {
		f.Close()
		if err != nil {
			os.Remove(f.Name())
		}
	}()
	if err := write(f); err != nil {
		return err
	}
	if err := f.Sync(); err != nil {
		return err
	}
	if err := os.Rename(f.Name(), path); err != nil {
		return err
	}
	return durable.SyncDir(filepath.Dir(path))
}

func newRestore(g *global) *cobra.Command {
	return &cobra.Command{
		Use:     "restore FILE",
		Short:   "Make a new state directory from a backup",
		Long:    "Reads a backup, checks it whole, and writes its records into a state directory that has none yet. The process must not be running.",
		Example: "  carrel restore --state ./new-state carrel-backup.jsonl",
		Args:    cobra.ExactArgs(1),
		RunE: func(c *cobra.Command, args []string) error {
			f, err := os.Open(args[0])
			if err != nil {
				return err
			}
			defer f.Close()
			if err := app.Restore(c.Context(), g.state, f); err != nil {
				return err
			}
			return g.print(c.OutOrStdout(), map[string]string{"state": g.state}, func(w io.Writer) { fmt.Fprintf(w, "restored into %s\n", g.state) })
		},
	}
}
