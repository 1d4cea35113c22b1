package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"maps"
	"os"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"carrel/internal/analysis"
	"carrel/internal/audit"
	"carrel/internal/operator"
)

func newAccess(g *global) *cobra.Command {
	c := &cobra.Command{
		Use:     "access",
		Short:   "Ask who may do what, and what a policy would change",
		Example: "  carrel access who-can workspaces:TerminateWorkspaces arn:aws:workspaces:eu-central-1:123456789012:workspace/ws-f9abcdefg",
	}
	c.AddCommand(newWhoCan(g), newReplay(g))
	return c
}

// world asks the running process for everybody and every policy.
func world(ctx context.Context, g *global, resource string) (*analysis.World, operator.World, error) {
	got, err := operator.Dial(g.state).World(ctx, resource)
	if err != nil {
		return nil, got, err
	}
	w := &analysis.World{}
	if err := json.Unmarshal(got.World, w); err != nil {
		return nil, got, fmt.Errorf("what the running process says of its policies: %w", err)
	}
	return w, got, nil
}

func newWhoCan(g *global) *cobra.Command {
	var with, without []string
	c := &cobra.Command{
		Use:   "who-can ACTION RESOURCE-ARN",
		Short: "List the principals that may do something, and by which policies",
		Long: `Lists the root, the users and the roles that may do something now, with the statements that allow it, and whoever may assume a role that may. It asks
the running process for its policies and evaluates them for everybody. The answers are
  yes  whatever the request is like
  if   depending on what nobody knows before the request is made: its address, a second factor, its tags, a session's tags and name
and those who may not are counted (with --json: named). Circumstances that are known can be given: then they are no conditions any more. The
tags of the resource are looked up. Conditions are not weighed against one another: of two that exclude each other both are listed. An action that
knows no resource is asked with "*".`,
		Example: `  carrel access who-can workspaces:TerminateWorkspaces arn:aws:workspaces:eu-central-1:123456789012:workspace/ws-f9abcdefg
  carrel access who-can iam:CreateUser arn:aws:iam::123456789012:user/eve --with aws:MultiFactorAuthPresent=true --json`,
		Args: cobra.ExactArgs(2),
		RunE: func(c *cobra.Command, args []string) error {
			q := analysis.Question{Action: args[0], Resource: args[1], Without: without, With: map[string][]string{}}
			for _, text := range with {
				key, value, ok := strings.Cut(text, "=")
				if !ok || key == "" {
					return fmt.Errorf("--with %s: a condition key and its value are wanted, as in aws:SourceIp=192.0.2.7", text)
				}
				q.With[key] = append(q.With[key], value)
			}
			w, got, err := world(c.Context(), g, q.Resource)
			if err != nil {
				return err
			}
			q.Tags, q.TagsKnown = got.Tags, got.TagsKnown
			access, err := w.WhoCan(q)
			if err != nil {
				return err
			}
			return g.print(c.OutOrStdout(), access, func(w io.Writer) { printAccess(w, access) })
		},
	}
	c.Flags().StringArrayVar(&with, "with", nil, "a condition key of the request and its value, KEY=VALUE (may be given again)")
	c.Flags().StringArrayVar(&without, "without", nil, "a condition key that the request does not have (may be given again)")
	return c
}

func printAccess(w io.Writer, access *analysis.Access) {
	for _, a := range access.Answers {
		fmt.Fprintf(w, "%-4s %s", a.Can, visible(a.Principal))
		if a.Type != analysis.Root && a.Type != analysis.User && a.Type != analysis.Role {
			fmt.Fprintf(w, " (%s)", a.Type)
		}
		for _, role := range a.Through {
			fmt.Fprintf(w, " -> %s", visible(role))
		}
		fmt.Fprintln(w)
		if len(a.By) == 0 && a.Type == analysis.Root {
			fmt.Fprintln(w, "       the account's root is allowed what nothing forbids")
		}
		for _, by := range a.By {
			fmt.Fprintf(w, "       by     %s\n", visible(by.String()))
		}
		for _, group := range a.If {
			for i, term := range group {
				fmt.Fprintf(w, "       %-6s %s\n", [...]string{"if", "or"}[min(i, 1)], visible(term.String()))
			}
		}
		for _, term := range a.Unless {
			fmt.Fprintf(w, "       unless %s\n", visible(term.String()))
		}
		if a.Note != "" {
			fmt.Fprintf(w, "       and    %s\n", a.Note)
		}
	}
	fmt.Fprintf(w, "%d others may not\n", len(access.Denied))
}

func newReplay(g *global) *cobra.Command {
	var since, file, kind, dir string
	p := analysis.Proposal{}
	c := &cobra.Command{
		Use:   "replay --policy FILE",
		Short: "Ask recorded calls again of a proposed policy, and list what would change",
		Long: `Reads the audit log back to a time, asks every check of the recorded decisions again, once of the policies that are in force now and once of them with
the proposed one, and lists each decision that differs, with how often it was asked and the request id of the latest call. Nothing is changed.

The policy in FILE is
  added to the identity policies of everybody, or of the users, roles and members of groups named with --for;
  with --in-place-of ARN: what stands in the place of that managed policy, wherever it is attached and wherever it is a boundary;
  with --kind boundary: the permissions boundary, in the place of any other;
  with --kind guardrail: the only guardrail of the account (see carrel guardrail).

Condition keys are as they were recorded. A session policy or an endpoint's policy says again what it said then. Of a call that was denied, the
checks behind the denied one were never asked. Calls of users and roles that do not exist any more are counted and left out. Policies that have
changed since make today's decision another one than the recorded one: those are counted as drifted, and compared by today's.`,
		Example: `  carrel access replay --since 30d --policy deny-without-mfa.json
  carrel access replay --since 7d --policy desks-v2.json --in-place-of arn:aws:iam::123456789012:policy/desks --json
  carrel access replay --since 2026-11-01 --policy only-eu.json --kind guardrail`,
		Args: cobra.NoArgs,
		RunE: func(c *cobra.Command, _ []string) error {
			from, err := parseSince(since, time.Now())
			if err != nil {
				return err
			}
			if p.Kind, err = analysis.ProposalKind(kind); err != nil {
				return fmt.Errorf("--kind: %w", err)
			}
			if file == "" {
				return errors.New("which policy? name its file with --policy")
			}
			text, err := os.ReadFile(file)
			if err != nil {
				return err
			}
			p.Text = string(text)
			dir, err := auditDir(g, dir)
			if err != nil {
				return err
			}
			w, _, err := world(c.Context(), g, "")
			if err != nil {
				return err
			}
			r, err := analysis.NewReplay(w, &p)
			if err != nil {
				return err
			}
			if err := analysis.Since(dir, from, func(e *audit.Event) { r.Add(e) }); err != nil {
				return err
			}
			out := r.Result()
			return g.print(c.OutOrStdout(), out, func(w io.Writer) { printReplayed(w, out) })
		},
	}
	f := c.Flags()
	f.StringVar(&since, "since", "30d", "how far back: 12h, 30d, 4w, a date (2026-11-01) or a time of RFC 3339")
	f.StringVar(&file, "policy", "", "file of the proposed policy, JSON")
	f.StringArrayVar(&p.For, "for", nil, "ARN of a user, role or group that it is proposed for (may be given again; default: everybody)")
	f.StringVar(&p.InPlaceOf, "in-place-of", "", "ARN of a managed policy whose place it takes")
	f.StringVar(&kind, "kind", "identity", "identity, boundary or guardrail")
	f.StringVar(&dir, "dir", "", "audit directory (default: audit in the state directory)")
	_ = c.RegisterFlagCompletionFunc("kind", cobra.FixedCompletions([]string{"identity", "boundary", "guardrail"}, cobra.ShellCompDirectiveNoFileComp))
	return c
}

// parseSince reads how far back to go.
func parseSince(text string, now time.Time) (time.Time, error) {
	for suffix, unit := range map[string]time.Duration{"d": 24 * time.Hour, "w": 7 * 24 * time.Hour} {
		if n, err := strconv.ParseUint(strings.TrimSuffix(text, suffix), 10, 16); err == nil && n > 0 && strings.HasSuffix(text, suffix) {
			return now.Add(-time.Duration(n) * unit), nil
		}
	}
	if d, err := time.ParseDuration(text); err == nil && d > 0 {
		return now.Add(-d), nil
	}
	for _, layout := range []string{time.DateOnly, time.RFC3339} {
		if t, err := time.Parse(layout, text); err == nil && t.Before(now) {
			return t, nil
		}
	}
	return time.Time{}, fmt.Errorf("--since %s: a time back from now such as 12h, 30d or 4w, or a date that is over, such as 2026-11-01, is wanted", text)
}

func printReplayed(w io.Writer, r *analysis.Replayed) {
	for _, c := range r.Changes {
		fmt.Fprintf(w, "%s -> %s  %6d x  %s  %s on %s (such as %s)\n", c.From, c.To, c.Count, visible(c.Principal), visible(c.Action), visible(c.Resource), visible(c.Example))
		if c.To == "deny" {
			fmt.Fprintf(w, "    %s\n", visible(c.Reason))
		}
	}
	fmt.Fprintf(w, "%d decisions would change, of %d checks in %d calls\n", total(r), r.Checks, r.Records)
	if r.Drifted > 0 {
		fmt.Fprintf(w, "%d checks are decided otherwise by today's policies than was recorded\n", r.Drifted)
	}
	for _, why := range slices.Sorted(maps.Keys(r.Skipped)) {
		fmt.Fprintf(w, "%d calls were not asked again: %s\n", r.Skipped[why], why)
	}
}

func total(r *analysis.Replayed) (n int) {
	for _, c := range r.Changes {
		n += c.Count
	}
	return n
}
