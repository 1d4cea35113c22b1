package main

import (
	"fmt"
	"io"

	"github.com/spf13/cobra"

	"carrel/internal/setup"
)

func newSetup(g *global) *cobra.Command {
	var o setup.Options
	c := &cobra.Command{
		Use:   "setup",
		Short: "Give a new installation its first directory and user",
		Long: `Makes a directory (an Active Directory domain controller in the default VPC), registers it with WorkSpaces, and makes one user with a random
first password, by the API of the Carrel that runs on the state directory. Passwords are written to files that only the state's owner reads, and
nowhere else. Where there is a directory already it only says what there is; broken off, it goes on when it is run again.`,
		Example: `  carrel setup
  carrel setup --domain corp.example.com --short-name CORP --user ada --json`,
		Args: cobra.NoArgs,
		RunE: func(c *cobra.Command, _ []string) error {
			o.State = g.state
			o.Progress = func(line string) { fmt.Fprintln(c.ErrOrStderr(), line) }
			r, err := setup.Run(c.Context(), o)
			if err != nil {
				return err
			}
			return g.print(c.OutOrStdout(), r, func(w io.Writer) { printSetup(w, r) })
		},
	}
	f := c.Flags()
	f.StringVar(&o.Domain, "domain", "corp.internal", "the directory's name: a DNS name that is yours")
	f.StringVar(&o.ShortName, "short-name", "CORP", "its NetBIOS name")
	f.StringVar(&o.User.Name, "user", "ada", "the first user's name")
	f.StringVar(&o.User.GivenName, "given-name", "", "the first user's given name")
	f.StringVar(&o.User.Surname, "surname", "", "the first user's surname")
	return c
}

func printSetup(w io.Writer, r setup.Result) {
	fmt.Fprintf(w, "API endpoint       %s\nportal             %s\ndirectory          %s (%s)\nregistration code  %s\nfirst user         %s\n",
		r.API, r.Portal, r.DirectoryID, r.Domain, r.RegistrationCode, r.User)
	for _, line := range [][2]string{{"first password  ", r.PasswordFile}, {"administrator   ", r.AdministratorFile}} {
		if line[1] != "" {
			fmt.Fprintf(w, "%s   in %s\n", line[0], line[1])
		}
	}
	fmt.Fprintf(w, "smallest bundle    %s\n", r.BundleID)
}
