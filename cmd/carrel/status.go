package main

import (
	"fmt"
	"io"

	"github.com/spf13/cobra"

	"carrel/internal/operator"
)

func newStatus(g *global) *cobra.Command {
	return &cobra.Command{
		Use:     "status",
		Short:   "Say what runs on the state directory",
		Example: "  carrel status --state ./state --json",
		Args:    cobra.NoArgs,
		RunE: func(c *cobra.Command, _ []string) error {
			s, err := operator.Dial(g.state).Status(c.Context())
			if err != nil {
				return err
			}
			return g.print(c.OutOrStdout(), s, func(w io.Writer) { printStatus(w, s) })
		},
	}
}

func printStatus(w io.Writer, s operator.Status) {
	fmt.Fprintf(w, "version      %s (pid %d)\naccount      %s\nregion       %s\nAPI          %s\nportal       %s\n", s.Version, s.PID, s.AccountID, s.Region, s.API, s.Portal)
	if s.Metrics != "" {
		fmt.Fprintf(w, "metrics      %s\n", s.Metrics)
	}
	for _, d := range s.Directories {
		fmt.Fprintf(w, "directory    %s\n", d)
	}
	fmt.Fprintf(w, "WorkSpaces   %d\n", s.Workspaces)
	if s.Simulated {
		fmt.Fprintf(w, "simulated    yes: no desktop is real; clock moved by %s\n", s.ClockOffset)
	}
}
