package main

import (
	"encoding/json"
	"fmt"
	"io"
	"io/fs"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"
	"unicode"

	"github.com/spf13/cobra"

	"carrel/internal/analysis"
	"carrel/internal/audit"
)

func newExplain(g *global) *cobra.Command {
	var dir string
	c := &cobra.Command{
		Use:   "explain REQUEST-ID",
		Short: "Say why an API call, or what a person asked for at the portal, was allowed or denied",
		Long: `Looks a call up in the audit log by the request id that the answer had (or by the event id of its record, or by the first 8 or more characters of
either) and says who asked for what, which kind of policy decided, which statements matched, what the condition keys were, and after a denial the
smallest change that would have allowed it. Of a sign-in at the portal, of what a person asked for there, and of the end of a session, it says who, which
check decided, and why. It reads files alone: nothing has to run. The caller has been told AWS's text and the id, nothing else.`,
		Example: `  carrel explain 1f0c2d3e-4a5b-4c6d-8e9f-001122334455
  carrel explain 1f0c2d3e --json`,
		Args: cobra.ExactArgs(1),
		RunE: func(c *cobra.Command, args []string) error {
			dir, err := auditDir(g, dir)
			if err != nil {
				return err
			}
			e, err := analysis.Find(dir, args[0])
			if err != nil {
				return err
			}
			d, kept := analysis.ReadDecision(e.Raw)
			out := map[string]any{"record": e.Raw}
			var nearest *analysis.Suggestion
			if kept {
				out["decision"] = d
				if len(d.Nearest) > 0 {
					nearest = &analysis.Suggestion{}
					if err := json.Unmarshal(d.Nearest, nearest); err != nil {
						return fmt.Errorf("the nearest allow in the record of %s: %w", e.Record.RequestID, err)
					}
				}
			}
			err = g.print(c.OutOrStdout(), out, func(w io.Writer) {
				printCall(w, &e.Record)
				if kept {
					printDecision(w, d, nearest)
				}
			})
			if err == nil && !kept {
				return fmt.Errorf("no decision was kept of this call: %s", whyNotKept(&e.Record))
			}
			return err
		},
	}
	c.Flags().StringVar(&dir, "dir", "", "audit directory (default: audit in the state directory)")
	return c
}

// auditDir is where the audit log is.
func auditDir(g *global, dir string) (string, error) {
	if dir == "" {
		dir = filepath.Join(g.state, "audit")
	}
	if info, err := os.Stat(dir); err != nil {
		return "", noInstallation(g.state, err)
	} else if !info.IsDir() {
		return "", &fs.PathError{Op: "read", Path: dir, Err: fs.ErrInvalid}
	}
	return dir, nil
}

func whyNotKept(r *audit.Record) string {
	if r.ErrorCode != "" {
		return "it was answered " + r.ErrorCode + " before any policy was asked; what is in the way is in the error's own text"
	}
	return "it is carried out without asking policies, or was recorded by a version that did not keep decisions"
}

func printCall(w io.Writer, r *audit.Record) {
	u := &r.UserIdentity
	who := u.ARN
	if who == "" {
		who = strings.TrimSpace(u.PrincipalID)
	}
	if u.Type == "Directory" {
		// A SID says nothing to people; it is not known of whoever knew a password that has to be changed.
		who = strings.TrimSpace(u.UserName + " " + u.PrincipalID)
	}
	if who == "" {
		who = "nobody known"
	}
	details := []string{u.Type}
	if u.AccessKeyID != "" {
		details = append(details, "key "+u.AccessKeyID)
	}
	if s := u.SessionContext; s != nil {
		details = append(details, "session of "+s.CreationDate.UTC().Format(time.RFC3339), map[bool]string{true: "with a second factor", false: "without a second factor"}[s.MFA])
	}
	fmt.Fprintf(w, "request      %s (event %s)\nwhen         %s\n", visible(r.RequestID), visible(r.EventID), r.EventTime.UTC().Format(time.RFC3339))
	fmt.Fprintf(w, "who          %s (%s)\nfrom         %s %s\n", visible(who), visible(strings.Join(details, ", ")), visible(r.SourceIPAddress), visible(r.UserAgent))
	if r.VPCEndpointID != "" {
		fmt.Fprintf(w, "endpoint     %s\n", visible(r.VPCEndpointID))
	}
	fmt.Fprintf(w, "what         %s %s\n", visible(r.EventSource), visible(r.EventName))
	if about := r.RequestParameters.String(); r.UserIdentity.Type == "Directory" && about != "null" {
		fmt.Fprintf(w, "about        %s\n", visible(about))
	}
	if r.ErrorCode != "" {
		fmt.Fprintf(w, "answered     %s: %s\n", visible(r.ErrorCode), visible(r.ErrorMessage))
	}
}

func printDecision(w io.Writer, d *analysis.Recorded, nearest *analysis.Suggestion) {
	verdict := "denied " + d.Reason
	if d.Allowed {
		verdict = "allowed"
		if d.Reason != "" {
			verdict += ": " + d.Reason
		}
	}
	fmt.Fprintf(w, "decision     %s\n", visible(verdict))
	if d.By != "" {
		fmt.Fprintf(w, "decided by   %s\n", visible(d.By))
	}
	if d.Shortened {
		fmt.Fprintln(w, "             (too long to be kept whole: earlier checks, which were allowed, are left out)")
	}
	var asked []string
	if nearest != nil {
		asked = slices.Clone(nearest.Asked)
	}
	for i := range d.Checks {
		k := &d.Checks[i]
		fmt.Fprintf(w, "\n%s  %s on %s\n", map[string]string{"allowed": "allowed", "implicitDeny": "denied (nothing allows it)", "explicitDeny": "denied (explicitly)"}[k.Decision], visible(k.Action), visible(k.Resource))
		for _, m := range k.Matched {
			name := fmt.Sprintf("statement %d", m.Statement)
			if m.Sid != "" {
				name = "statement " + m.Sid
			}
			fmt.Fprintf(w, "  %-5s %s\n", m.Effect, visible(name+" of the "+m.Kind+" "+m.Policy))
		}
		if len(k.Matched) == 0 {
			fmt.Fprintln(w, "        no statement matched")
		}
		printKeys(w, k.Context, asked)
		asked = slices.DeleteFunc(asked, func(name string) bool { _, here := k.Context[strings.ToLower(name)]; return here })
	}
	fmt.Fprintln(w, "\ncondition keys")
	printKeys(w, d.Context, asked)
	for _, name := range asked {
		if _, ok := d.Context[strings.ToLower(name)]; !ok {
			fmt.Fprintf(w, "  * %-34s (the request does not have it)\n", visible(name))
		}
	}
	if nearest != nil {
		printNearest(w, nearest)
	}
}

// printKeys writes the keys that statements have asked for first, with a star.
func printKeys(w io.Writer, keys map[string][]string, asked []string) {
	names := slices.Sorted(maps.Keys(keys))
	wanted := func(name string) bool {
		return slices.ContainsFunc(asked, func(a string) bool { return strings.EqualFold(a, name) })
	}
	for _, mark := range []string{"*", " "} {
		for _, name := range names {
			if wanted(name) == (mark == "*") {
				fmt.Fprintf(w, "  %s %-34s %s\n", mark, visible(name), visible(strings.Join(keys[name], ", ")))
			}
		}
	}
}

func printNearest(w io.Writer, s *analysis.Suggestion) {
	one := func(c *analysis.Change) {
		fmt.Fprintf(w, "  %s\n", visible(c.String()))
		if c.Statement != nil && c.Do != analysis.Remove {
			fmt.Fprintf(w, "    %s\n", visible(string(c.Statement)))
		}
	}
	if s.Single {
		fmt.Fprintln(w, "\nnearest allow: one change")
	} else {
		fmt.Fprintf(w, "\nnearest allow: %d changes, all of them\n", len(s.Changes)+s.More)
	}
	for i := range s.Changes {
		one(&s.Changes[i])
	}
	if s.More > 0 {
		fmt.Fprintf(w, "  ... and %d more\n", s.More)
	}
	for i := range s.Instead {
		fmt.Fprintln(w, "or")
		one(&s.Instead[i])
	}
}

// visible writes what could move a cursor or reorder what is shown as an escape: clients choose much of what is recorded.
func visible(s string) string {
	var b strings.Builder
	for _, r := range s {
		if unicode.IsPrint(r) {
			b.WriteRune(r)
		} else {
			b.WriteString(strings.Trim(fmt.Sprintf("%+q", r), "'"))
		}
	}
	return b.String()
}
