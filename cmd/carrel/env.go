package main

import (
	"context"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"carrel/internal/doctor"
)

func newEnv(g *global) *cobra.Command {
	return &cobra.Command{
		Use:   "env",
		Short: "Print the shell variables that point AWS clients at this installation",
		Long:  "Prints AWS_CONFIG_FILE, AWS_SHARED_CREDENTIALS_FILE, AWS_CA_BUNDLE and AWS_PROFILE for the installation in the state directory. It holds no secret: those are in the credentials file.",
		Example: `  eval "$(carrel env --state ./state)"
  aws sts get-caller-identity`,
		Args: cobra.NoArgs,
		RunE: func(c *cobra.Command, _ []string) error {
			dir, err := filepath.Abs(g.state)
			if err != nil {
				return err
			}
			vars := [][2]string{
				{"AWS_CONFIG_FILE", filepath.Join(dir, "aws", "config")},
				{"AWS_SHARED_CREDENTIALS_FILE", filepath.Join(dir, "aws", "credentials")},
				{"AWS_CA_BUNDLE", filepath.Join(dir, "ca.pem")},
				{"AWS_PROFILE", "carrel"},
			}
			if _, err := os.Stat(vars[1][1]); err != nil {
				return noInstallation(dir, err)
			}
			object := map[string]string{}
			for _, v := range vars {
				object[v[0]] = v[1]
			}
			return g.print(c.OutOrStdout(), object, func(w io.Writer) {
				for _, v := range vars {
					fmt.Fprintf(w, "export %s=%s\n", v[0], shellQuote(v[1]))
				}
				// Keys in the environment would win over the profile.
				fmt.Fprintln(w, "unset AWS_ACCESS_KEY_ID AWS_SECRET_ACCESS_KEY AWS_SESSION_TOKEN AWS_REGION AWS_DEFAULT_REGION AWS_ENDPOINT_URL")
				if version := awsVersion(c.Context()); doctor.OldAWSCLI(version) {
					printOld(w, c.ErrOrStderr(), version, vars[0][1])
				}
			})
		},
	}
}

// awsVersion is what the AWS CLI says of itself, "" when there is none.
func awsVersion(ctx context.Context) string {
	ctx, cancel := context.WithTimeout(ctx, 10*time.Second)
	defer cancel()
	out, err := exec.CommandContext(ctx, "aws", "--version").CombinedOutput()
	if err != nil {
		return ""
	}
	return string(out)
}

// printOld writes a function for an AWS CLI that does not read the endpoint from its configuration file, and says so.
func printOld(w, diagnostics io.Writer, version, config string) {
	text, err := os.ReadFile(config)
	if err != nil {
		return
	}
	for line := range strings.Lines(string(text)) {
		if name, endpoint, _ := strings.Cut(strings.TrimSpace(line), " = "); name == "endpoint_url" {
			fmt.Fprintf(w, "aws() { if [ \"$AWS_PROFILE\" = carrel ]; then command aws --endpoint-url %s \"$@\"; else command aws \"$@\"; fi; }\n", shellQuote(endpoint))
			name, _, _ := strings.Cut(version, " ")
			fmt.Fprintf(diagnostics, "carrel: %s does not read endpoint_url: in this shell aws is a function that adds it. Scripts need AWS CLI 2.13 or later (carrel doctor).\n", name)
		}
	}
}

// shellQuote makes s one word of a POSIX shell: the state directory's name is the caller's, and its output goes to eval.
func shellQuote(s string) string { return "'" + strings.ReplaceAll(s, "'", `'\''`) + "'" }
