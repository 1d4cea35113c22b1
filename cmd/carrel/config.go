package main

import (
	"errors"
	"fmt"
	"io"

	"github.com/spf13/cobra"

	"carrel/internal/config"
)

func newConfig(g *global) *cobra.Command {
	c := &cobra.Command{Use: "config", Short: "Work with configuration files", Example: "  carrel config check carrel.yaml"}
	c.AddCommand(&cobra.Command{
		Use:     "check FILE",
		Short:   "Read a configuration file and report every problem at once",
		Example: "  carrel config check /etc/carrel/carrel.yaml",
		Args:    cobra.ExactArgs(1),
		RunE: func(c *cobra.Command, args []string) error {
			conf, err := config.Load(args[0])
			if err == nil {
				err = conf.Validate()
			}
			if err != nil && g.json {
				_ = g.print(c.OutOrStdout(), map[string]any{"valid": false, "error": err.Error()}, nil)
				return errors.New("the configuration is not valid")
			}
			if err != nil {
				return err
			}
			return g.print(c.OutOrStdout(), map[string]any{"valid": true}, func(w io.Writer) { fmt.Fprintf(w, "%s: no problem found\n", args[0]) })
		},
	})
	return c
}
