package main

import (
	"errors"
	"fmt"
	"io/fs"
	"strings"

	"github.com/spf13/cobra"
)

// finish gives cobra's own subcommands their examples, and every command an answer to wrong arguments that says what right ones are.
func finish(root *cobra.Command) {
	root.InitDefaultHelpCmd()
	root.InitDefaultCompletionCmd()
	for _, of := range []struct {
		path    []string
		example string
	}{
		{[]string{"help"}, "  carrel help serve"},
		{[]string{"completion"}, "  source <(carrel completion bash)"},
		{[]string{"completion", "bash"}, "  source <(carrel completion bash)"},
		{[]string{"completion", "zsh"}, "  carrel completion zsh > \"${fpath[1]}/_carrel\""},
		{[]string{"completion", "fish"}, "  carrel completion fish | source"},
		{[]string{"completion", "powershell"}, "  carrel completion powershell | Out-String | Invoke-Expression"},
	} {
		if c, _, err := root.Find(of.path); err == nil {
			c.Example = of.example
		}
	}
	explain(root)
}

func explain(c *cobra.Command) {
	for _, sub := range c.Commands() {
		explain(sub)
	}
	if args := c.Args; args != nil {
		c.Args = func(c *cobra.Command, given []string) error { return usage(c, args(c, given)) }
	}
	c.SetFlagErrorFunc(usage)
	if c.HasSubCommands() && !c.Runnable() {
		// By itself cobra shows the help for a subcommand that does not exist, and calls it a success.
		c.Args, c.RunE, c.SuggestionsMinimumDistance = cobra.ArbitraryArgs, unknown, 2
	}
}

// unknown is a command that is nothing without a subcommand.
func unknown(c *cobra.Command, given []string) error {
	if len(given) == 0 {
		return c.Help()
	}
	err := fmt.Errorf("unknown command %q for %q", given[0], c.CommandPath())
	if like := c.SuggestionsFor(given[0]); len(like) > 0 {
		err = fmt.Errorf("%w, did you mean %s?", err, strings.Join(like, " or "))
	}
	return usage(c, err)
}

// usage adds to an error what a right call looks like.
func usage(c *cobra.Command, err error) error {
	if err == nil {
		return nil
	}
	line := c.UseLine()
	if c.HasAvailableSubCommands() {
		line = c.CommandPath() + " COMMAND"
	}
	return fmt.Errorf("%w: usage: %s (see %s --help)", err, line, c.CommandPath())
}

// noInstallation says of a file that was not found in a state directory what to do.
func noInstallation(dir string, err error) error {
	if !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	return fmt.Errorf("there is no installation in %s (%w): start one with: carrel serve --state %s", dir, err, dir)
}
