package main

import (
	"fmt"
	"io"
	"os"
	"strings"

	"github.com/spf13/cobra"

	"carrel/internal/operator"
)

func newGuardrail(g *global) *cobra.Command {
	c := &cobra.Command{
		Use:   "guardrail",
		Short: "Say what anybody in the account may do at most",
		Long: `Guardrails are policies of the account, like AWS's service control policies of one level: while there is one, what no guardrail allows is denied, and what
one denies is denied, to everybody in the account, its root included, whatever their own policies say. They allow nothing by themselves. Without any
nothing is limited. They are set here and not by the API, so that nobody whom they bind can change them.`,
		Example: "  carrel guardrail put only-eu only-eu.json",
	}
	put := &cobra.Command{
		Use:   "put NAME FILE",
		Short: "Make or replace a guardrail",
		Long: `Makes or replaces a guardrail; it is in force with the next request. Try it before on what was asked for in the past:
  carrel access replay --since 30d --kind guardrail --policy FILE
FILE is a policy without principals. One that only denies needs another one beside it that allows, or nothing is allowed any more; a warning says so.`,
		Example: `  carrel guardrail put full-access full-access.json
  carrel guardrail put only-eu only-eu.json --json`,
		Args: cobra.ExactArgs(2),
		RunE: func(c *cobra.Command, args []string) error {
			text, err := os.ReadFile(args[1])
			if err != nil {
				return err
			}
			s, err := operator.Dial(g.state).PutGuardrail(c.Context(), operator.Guardrail{Name: args[0], Text: string(text)})
			if err != nil {
				return err
			}
			return g.printGuardrails(c, s, map[bool]string{true: "replaced", false: "in force"}[s.Replaced])
		},
	}
	list := &cobra.Command{
		Use: "list", Short: "List the guardrails", Example: "  carrel guardrail list --json", Args: cobra.NoArgs,
		RunE: func(c *cobra.Command, _ []string) error {
			all, err := operator.Dial(g.state).Guardrails(c.Context())
			if err != nil {
				return err
			}
			return g.print(c.OutOrStdout(), all, func(w io.Writer) {
				for _, one := range all {
					fmt.Fprintf(w, "%s\n  %s\n", one.Name, visible(strings.Join(strings.Fields(one.Text), " ")))
				}
				if len(all) == 0 {
					fmt.Fprintln(w, "there is no guardrail: nothing limits what policies allow")
				}
			})
		},
	}
	remove := &cobra.Command{
		Use: "remove NAME", Short: "Take a guardrail away", Example: "  carrel guardrail remove only-eu", Args: cobra.ExactArgs(1),
		Long: "Takes a guardrail away, with the next request. The last one that allows is what the others leave anything by: a warning says when nothing is allowed any more.",
		RunE: func(c *cobra.Command, args []string) error {
			s, err := operator.Dial(g.state).RemoveGuardrail(c.Context(), args[0])
			if err != nil {
				return err
			}
			return g.printGuardrails(c, s, "taken away")
		},
	}
	c.AddCommand(put, list, remove)
	return c
}

// printGuardrails says what became of the guardrails; warnings are also on the standard error, where a script's reader sees them.
func (g *global) printGuardrails(c *cobra.Command, s operator.GuardrailSet, what string) error {
	for _, warning := range s.Warnings {
		fmt.Fprintln(c.ErrOrStderr(), "carrel: warning: "+warning)
	}
	return g.print(c.OutOrStdout(), s, func(w io.Writer) {
		fmt.Fprintf(w, "guardrail %s: %s\n", s.Name, what)
		if len(s.Names) == 0 {
			fmt.Fprintln(w, "there is no guardrail left: nothing limits what policies allow")
			return
		}
		fmt.Fprintf(w, "guardrails: %s\n", strings.Join(s.Names, ", "))
	})
}
