// Command carrel gives people isolated virtual desktops behind the Amazon WorkSpaces API.
package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"os/signal"
	"syscall"

	"github.com/spf13/cobra"

	"carrel/internal/app"
	"carrel/internal/config"
	"carrel/internal/driver/jail"
)

// version is set by the linker.
var version = "unversioned"

func main() {
	// Other roles of this program: a jail's second stage, the keeper of memory. They do not come back from here.
	app.Helpers()
	jail.Main() // does not return in a process that is to become a jailed program
	// Started by the supervisor under a name that says nothing; only what lists processes cares.
	_ = os.WriteFile("/proc/self/comm", []byte("carrel"), 0)
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	if err := newRoot().ExecuteContext(ctx); err != nil {
		fmt.Fprintln(os.Stderr, "carrel: "+err.Error())
		var found *refuted
		if errors.As(err, &found) {
			os.Exit(2)
		}
		os.Exit(1)
	}
}

// defaultState is CARREL_STATE, or where the configuration's default is.
func defaultState() string {
	if dir := os.Getenv("CARREL_STATE"); dir != "" {
		return dir
	}
	return config.DefaultStateDir(os.Geteuid(), os.Getenv)
}

// global holds the flags that every subcommand takes.
type global struct {
	state string
	json  bool
}

func newRoot() *cobra.Command {
	g := &global{}
	root := &cobra.Command{
		Use:   "carrel",
		Short: "Isolated virtual desktops on your own hosts, behind the Amazon WorkSpaces API",
		Long: `Carrel gives people isolated virtual desktops on hosts that their own organisation runs, behind the Amazon WorkSpaces
API and its whole chain of protection. The AWS CLI, every AWS SDK and Terraform work against it unchanged.`,
		Example: `  carrel serve --simulate --state ./state
  eval "$(carrel env --state ./state)"
  aws workspaces describe-workspace-directories`,
		SilenceUsage:  true,
		SilenceErrors: true,
		Version:       version,
	}
	root.PersistentFlags().StringVar(&g.state, "state", defaultState(), "state directory (environment: CARREL_STATE)")
	root.PersistentFlags().BoolVar(&g.json, "json", false, "print data as JSON")
	_ = root.MarkPersistentFlagDirname("state")
	root.AddCommand(newServe(g), newHost(g), newHold(), newSetup(g), newDismantle(g), newEnv(g), newStatus(g), newDoctor(g), newConfig(g), newVersion(g), newSimulate(g), newUser(g), newScrub(g), newAudit(g), newExplain(g), newAccess(g), newGuardrail(g), newBackup(g), newRestore(g), newImage(g))
	finish(root)
	return root
}

// print writes v as JSON with --json, otherwise what human writes.
func (g *global) print(w io.Writer, v any, human func(io.Writer)) error {
	if !g.json {
		human(w)
		return nil
	}
	enc := json.NewEncoder(w)
	enc.SetIndent("", "  ")
	return enc.Encode(v)
}
