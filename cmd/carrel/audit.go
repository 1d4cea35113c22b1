package main

import (
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"

	"github.com/spf13/cobra"

	"carrel/internal/app"
	"carrel/internal/audit"
	"carrel/internal/evidence"
)

func newAudit(g *global) *cobra.Command {
	c := &cobra.Command{Use: "audit", Short: "Work with the audit log of every API call", Example: "  carrel audit verify --state ./state"}
	var key, dir, head string
	verify := &cobra.Command{
		Use:   "verify",
		Short: "Verify the chain of all audit records and the signed digests over it",
		Long: `Checks every record of the audit log against its hash and the one before, and the chain against the digests signed into the evidence
log, with the public key alone: records that were changed, taken away, put in or moved, within files and by whole files. It names the first bad
record and then ends with status 2 (1: the check could not be made). Records behind the last digest are chained, but nobody has signed them yet;
that is at most five minutes' worth, and none once Carrel has stopped. A log of which the end was cut off together with the evidence log's looks whole: keep the
evidence head that this command prints somewhere else, and give it with --head the next time.`,
		Example: "  carrel audit verify --json",
		Args:    cobra.NoArgs,
		RunE: func(c *cobra.Command, _ []string) error {
			pub, err := evidenceKey(g, key)
			if err != nil {
				return err
			}
			signed, err := os.Open(filepath.Join(g.state, app.EvidenceLog))
			if err != nil {
				return fmt.Errorf("open the evidence log: %w", err)
			}
			defer signed.Close()
			if dir == "" {
				dir = filepath.Join(g.state, "audit")
			}
			source := audit.Source{Dir: dir, Evidence: signed, Live: true}
			if head != "" {
				known, err := evidence.ParseHead(head)
				if err != nil {
					return fmt.Errorf("--head: %w", err)
				}
				source.Head = &known
			}
			r, err := audit.Verify(source, pub)
			verdict := map[string]any{"evidenceHead": r.Evidence.Head.String(), "valid": err == nil, "files": r.Files, "records": r.Records, "digests": r.Digests, "unsigned": r.Unsigned}
			if err != nil {
				verdict["error"] = err.Error()
			}
			var fault *audit.Fault
			if errors.As(err, &fault) {
				verdict["fault"] = map[string]any{"file": fault.File, "line": fault.Line, "record": fault.Sequence, "problem": fault.Problem}
			}
			printed := g.print(c.OutOrStdout(), verdict, func(w io.Writer) {
				fmt.Fprintf(w, "%d records in %d files are chained; %d signed digests agree, %d records stand behind the last one\nevidence head %s\n", r.Records, r.Files, r.Digests, r.Unsigned, r.Evidence.Head)
			})
			var broken *evidence.Fault
			if fault != nil || errors.As(err, &broken) {
				return &refuted{err}
			}
			return errors.Join(err, printed)
		},
	}
	verify.Flags().StringVar(&key, "key", "", "public key, PEM (default: evidence/public.pem in the state directory)")
	verify.Flags().StringVar(&dir, "dir", "", "audit directory (default: audit in the state directory)")
	verify.Flags().StringVar(&head, "head", "", "an evidence head printed earlier: the log must contain it")
	c.AddCommand(verify)
	return c
}

// refuted is a check that could be made and has found that something is not what it was.
type refuted struct{ error }

func (r *refuted) Unwrap() error { return r.error }
