package main

import (
	"fmt"
	"io"

	"github.com/spf13/cobra"

	"carrel/internal/operator"
)

func newUser(g *global) *cobra.Command {
	c := &cobra.Command{
		Use:     "user",
		Short:   "Make users in a directory that Carrel runs",
		Example: "  carrel user add ada --given-name Ada --surname Lovelace",
	}
	c.AddCommand(newUserAdd(g))
	return c
}

func newUserAdd(g *global) *cobra.Command {
	var u operator.NewUser
	c := &cobra.Command{
		Use:   "add NAME",
		Short: "Make a user with a random first password, written to a file",
		Long: `Makes an enabled user in a directory, simulated or real, with a random first password. The password is written to a file in the state
directory that only its owner reads, and nowhere else; the command prints where. Remove the file once the person has it.`,
		Example: `  carrel user add ada --given-name Ada --surname Lovelace
  carrel user add grace --directory d-90670ca44e --json`,
		Args: cobra.ExactArgs(1),
		RunE: func(c *cobra.Command, args []string) error {
			u.Name = args[0]
			made, err := operator.Dial(g.state).MakeUser(c.Context(), u)
			if err != nil {
				return err
			}
			return g.print(c.OutOrStdout(), made, func(w io.Writer) {
				fmt.Fprintf(w, "%s was made in %s (%s)\nfirst password: %s\n", made.Name, made.Directory, made.SID, made.PasswordFile)
			})
		},
	}
	f := c.Flags()
	f.StringVar(&u.Directory, "directory", "", "directory id (default: the only one)")
	f.StringVar(&u.GivenName, "given-name", "", "given name")
	f.StringVar(&u.Surname, "surname", "", "surname")
	f.StringVar(&u.Email, "email", "", "e-mail address")
	return c
}
