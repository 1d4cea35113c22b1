package main

import (
	"fmt"
	"io"
	"os"
	"path/filepath"

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
the audit and evidence logs; remove it when nothing in it is wanted any more. Run it as who has run carrel serve: root, or the user.`,
		Example: `  carrel dismantle --yes
  carrel dismantle --state ./state --json`,
		Args: cobra.NoArgs,
		RunE: func(c *cobra.Command, _ []string) error {
			if os.Geteuid() != 0 {
				return dismantleInside(c, g, file, yes)
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

// dismantleInside runs the subcommand again as root of the namespaces that this user's desktops were in, and lets go of them.
func dismantleInside(c *cobra.Command, g *global, file string, yes bool) error {
	state, err := filepath.Abs(g.state)
	if err != nil {
		return err
	}
	args := []string{c.Name(), "--state", state}
	if file != "" {
		if file, err = filepath.Abs(file); err != nil {
			return err
		}
		args = append(args, "--config", file)
	}
	if yes {
		args = append(args, "--yes")
	}
	if g.json {
		args = append(args, "--json")
	}
	return app.DismantleInside(c.Context(), state, args, app.Process{Version: version, Stdout: c.OutOrStdout(), Stderr: c.ErrOrStderr()})
}
