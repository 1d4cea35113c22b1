package main

import (
	"fmt"
	"io"
	"strconv"
	"time"

	"github.com/spf13/cobra"

	"carrel/internal/operator"
)

func newSimulate(g *global) *cobra.Command {
	c := &cobra.Command{
		Use:   "simulate",
		Short: "Move the clock of a simulated installation, make its drivers fail, add users",
		Long: `A simulated installation (carrel serve --simulate) is the same program with simulated drivers: it tests WorkSpaces automation
offline, without root, QEMU or Samba. These subcommands move its clock and make its drivers fail on purpose.`,
		Example: `  carrel simulate advance 20m
  carrel simulate fail hypervisor start 3
  carrel simulate faults
  carrel simulate user grace.hopper`,
	}
	c.AddCommand(newSimulateAdvance(g), newSimulateFail(g), newSimulateFaults(g), newSimulateClear(g), newSimulateUser(g))
	return c
}

func newSimulateAdvance(g *global) *cobra.Command {
	return &cobra.Command{
		Use:     "advance DURATION",
		Short:   "Move the clock forward and let everything happen that is due",
		Example: "  carrel simulate advance 20m",
		Args:    cobra.ExactArgs(1),
		RunE: func(c *cobra.Command, args []string) error {
			by, err := time.ParseDuration(args[0])
			if err != nil || by <= 0 {
				return fmt.Errorf("%q is not a positive duration such as 20m, 36h or 90s", args[0])
			}
			s, err := operator.Dial(g.state).Advance(c.Context(), by)
			if err != nil {
				return err
			}
			return g.print(c.OutOrStdout(), s, func(w io.Writer) { fmt.Fprintf(w, "clock moved by %s, %s in all\n", by, s.ClockOffset) })
		},
	}
}

func newSimulateFail(g *global) *cobra.Command {
	return &cobra.Command{
		Use:   "fail DRIVER STEP [TIMES]",
		Short: "Make a driver's step fail TIMES times (default 1; always: permanently, until cleared)",
		Example: `  carrel simulate fail hypervisor start 3
  carrel simulate fail hypervisor scrub always`,
		Args: cobra.RangeArgs(2, 3),
		RunE: func(c *cobra.Command, args []string) error {
			f := operator.Fault{Driver: args[0], Step: args[1], Times: 1}
			if len(args) == 3 {
				if args[2] == "always" {
					f.Times = 0
				} else if n, err := strconv.Atoi(args[2]); err == nil && n > 0 {
					f.Times = n
				} else {
					return fmt.Errorf("%q is not a number of times, nor always", args[2])
				}
			}
			if err := operator.Dial(g.state).Fail(c.Context(), f); err != nil {
				return err
			}
			return g.print(c.OutOrStdout(), f, func(w io.Writer) { fmt.Fprintf(w, "%s %s will fail: %s\n", f.Driver, f.Step, times(f.Times)) })
		},
	}
}

func newSimulateFaults(g *global) *cobra.Command {
	return &cobra.Command{
		Use:     "faults",
		Short:   "List the failures still to come",
		Example: "  carrel simulate faults --json",
		Args:    cobra.NoArgs,
		RunE: func(c *cobra.Command, _ []string) error {
			all, err := operator.Dial(g.state).Faults(c.Context())
			if err != nil {
				return err
			}
			return g.print(c.OutOrStdout(), all, func(w io.Writer) {
				for _, f := range all {
					fmt.Fprintf(w, "%s %s %s\n", f.Driver, f.Step, times(f.Times))
				}
			})
		},
	}
}

func newSimulateClear(g *global) *cobra.Command {
	return &cobra.Command{
		Use:     "clear",
		Short:   "End all failures",
		Example: "  carrel simulate clear",
		Args:    cobra.NoArgs,
		RunE: func(c *cobra.Command, _ []string) error {
			if err := operator.Dial(g.state).Clear(c.Context()); err != nil {
				return err
			}
			return g.print(c.OutOrStdout(), []string{}, func(w io.Writer) { fmt.Fprintln(w, "no driver fails on purpose any more") })
		},
	}
}

func times(n int) string {
	if n == 0 {
		return "always"
	}
	return strconv.Itoa(n) + " times"
}

func newSimulateUser(g *global) *cobra.Command {
	var directory string
	c := &cobra.Command{
		Use:     "user NAME...",
		Short:   "Add users to the simulated directory",
		Example: "  carrel simulate user ada.lovelace grace.hopper",
		Args:    cobra.MinimumNArgs(1),
		RunE: func(c *cobra.Command, args []string) error {
			for _, name := range args {
				if err := operator.Dial(g.state).AddUser(c.Context(), directory, name); err != nil {
					return err
				}
			}
			return g.print(c.OutOrStdout(), args, func(w io.Writer) { fmt.Fprintf(w, "%d added\n", len(args)) })
		},
	}
	c.Flags().StringVar(&directory, "directory", "", "directory id (default: the only one)")
	return c
}
