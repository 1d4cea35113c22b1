package main

import (
	"fmt"
	"io"
	"os"
	"strings"

	"github.com/spf13/cobra"

	"carrel/internal/app"
	"carrel/internal/doctor"
)

func newDoctor(g *global) *cobra.Command {
	var strict bool
	c := &cobra.Command{
		Use:   "doctor",
		Short: "Say what this machine can and cannot do, each line with its remedy",
		Long: `Examines virtualisation (a probe guest has to run: /dev/kvm alone proves nothing), kernel features, hardening, programs and room.
Simulated desktops need none of it. Run it as root for a complete answer, and as the user who is to run desktops without root for that. It changes nothing and ends within a minute.`,
		Example: `  sudo carrel doctor
  carrel doctor --strict --json`,
		Args: cobra.NoArgs,
		RunE: func(c *cobra.Command, _ []string) error {
			o := doctor.Options{StateDir: g.state, Probes: doctor.ThisMachine(c.Name(), "probe")}
			if os.Geteuid() != 0 {
				o.Rootless = app.ProbeRootless
			}
			report := doctor.Examine(c.Context(), o)
			if err := c.Context().Err(); err != nil {
				return err
			}
			var failed error
			if err := g.print(c.OutOrStdout(), report, func(w io.Writer) { failed = report.Write(w) }); err != nil {
				failed = err
			}
			if failed != nil {
				return failed
			}
			return strictly(strict, report)
		},
	}
	c.Flags().BoolVar(&strict, "strict", false, "fail if anything is missing that real desktops need")
	c.AddCommand(&cobra.Command{
		Use:    "probe NAME",
		Short:  "Run one probe in this process, which may hang: the examination does this in child processes",
		Hidden: true,
		Args:   cobra.ExactArgs(1),
		RunE: func(c *cobra.Command, args []string) error {
			return doctor.RunProbe(c.Context(), args[0], c.OutOrStdout(), c.Parent().Name(), c.Name())
		},
	})
	return c
}

// strictly is the error of --strict for a report.
func strictly(strict bool, report doctor.Report) error {
	lacking := report.Lacks()
	if !strict || len(lacking) == 0 {
		return nil
	}
	names := make([]string, len(lacking))
	for i, c := range lacking {
		names[i] = c.Name
	}
	return fmt.Errorf("real desktops do not run here without: %s", strings.Join(names, ", "))
}
