package main

import (
	"errors"
	"fmt"
	"io"
	"os"

	"github.com/spf13/cobra"

	"carrel/internal/app"
	"carrel/internal/config"
)

func newDismantle(g *global) *cobra.Command {
	var file string
	var yes bool
	c := &cobra.Command{
		Use:   "dismantle",
		Short: "Take away what real desktops have left on this host",
		Long: `Takes away networks, directories, memory templates and all that the host role keeps beside the state directory. It refuses while Carrel runs on the
state directory, and while there are desktops: terminate those first, so that there is evidence of their end. The state directory itself stays, with
the audit and evidence logs; remove it when nothing in it is wanted any more.`,
		Example: `  carrel dismantle --yes
  carrel dismantle --state ./state --json`,
		Args: cobra.NoArgs,
		RunE: func(c *cobra.Command, _ []string) error {
			if os.Geteuid() != 0 {
				return errors.New("what is to be taken away is root's: run it with sudo and --state " + g.state)
			}
			conf, err := merged(c, file, g.state, config.Config{})
			if err != nil {
				return err
			}
			done, err := app.Dismantle(c.Context(), conf, yes, app.Process{Version: version, Stdout: c.OutOrStdout(), Stderr: c.ErrOrStderr()})
			if err != nil {
				return err
			}
			return g.print(c.OutOrStdout(), done, func(w io.Writer) {
				fmt.Fprintf(w, "taken away: %d directories, %d networks, %s\n", len(done.Directories), len(done.Networks), done.HostDir)
			})
		},
	}
	c.Flags().StringVar(&file, "config", "", "configuration file")
	c.Flags().BoolVar(&yes, "yes", false, "directories may go, with all their users")
	return c
}
