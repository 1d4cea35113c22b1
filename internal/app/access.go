package app

import (
	"context"
	"encoding/json"
	"fmt"
	"maps"
	"regexp"
	"slices"
	"strings"

	"carrel/internal/analysis"
	"carrel/internal/operator"
	"carrel/internal/permissions"
	"carrel/internal/policy"
	"carrel/internal/state"
)

// access is what the operator may ask and set about permissions.
type access struct{ h *house }

var _ operator.Access = access{}

func (a access) account() permissions.Account {
	return permissions.Account{ID: a.h.installation.AccountID, Partition: a.h.installation.Partition}
}

// actions are those of all operations.
func actions() []string {
	var all []string
	for _, s := range APIs() {
		for _, op := range s.Operations {
			all = append(all, s.SigningName+":"+op.Name)
		}
	}
	slices.Sort(all)
	return all
}

// World is everybody and every policy, and the tags of a resource.
func (a access) World(resource string) (operator.World, error) {
	snap := a.h.db.Snapshot()
	text, err := json.Marshal(analysis.NewWorld(snap, a.account(), a.h.installation.Region, actions()))
	if err != nil {
		return operator.World{}, err
	}
	w := operator.World{World: text}
	w.Tags, w.TagsKnown = analysis.ResourceTags(snap, a.account(), resource)
	return w, nil
}

// Guardrails are the account's, by name.
func (a access) Guardrails() []operator.Guardrail {
	out := []operator.Guardrail{}
	if rec, ok := state.Get(a.h.db.Snapshot(), state.Accounts, state.Accounts.ID(nil)); ok {
		for _, name := range slices.Sorted(maps.Keys(rec.Guardrails)) {
			out = append(out, operator.Guardrail{Name: name, Text: rec.Guardrails[name]})
		}
	}
	return out
}

// guardrailName is what AWS takes as the name of a policy.
var guardrailName = regexp.MustCompile(`^[\w+=,.@-]{1,128}$`)

// PutGuardrail makes or replaces a guardrail. It is in force with the next request.
func (a access) PutGuardrail(ctx context.Context, g operator.Guardrail) (operator.GuardrailSet, error) {
	if !guardrailName.MatchString(g.Name) {
		return operator.GuardrailSet{}, fmt.Errorf("%q is no name of a guardrail: 1 to 128 letters, digits and any of _+=,.@-", g.Name)
	}
	if _, err := policy.Parse(policy.Guardrail, g.Text); err != nil {
		return operator.GuardrailSet{}, fmt.Errorf("guardrail %s: %w", g.Name, err)
	}
	return a.change(ctx, g.Name, func(all map[string]string) error { all[g.Name] = g.Text; return nil })
}

// RemoveGuardrail takes a guardrail away.
func (a access) RemoveGuardrail(ctx context.Context, name string) (operator.GuardrailSet, error) {
	return a.change(ctx, name, func(all map[string]string) error {
		if _, ok := all[name]; !ok {
			known := "there is none"
			if len(all) > 0 {
				known = "there are " + strings.Join(slices.Sorted(maps.Keys(all)), ", ")
			}
			return fmt.Errorf("there is no guardrail %q: %s", name, known)
		}
		delete(all, name)
		return nil
	})
}

func (a access) change(ctx context.Context, name string, fn func(map[string]string) error) (operator.GuardrailSet, error) {
	out := operator.GuardrailSet{Name: name}
	_, err := a.h.db.Update(ctx, func(tx *state.Tx) error {
		rec := &state.Account{Meta: state.Meta{Created: tx.Now()}}
		if old, ok := state.Get(tx, state.Accounts, state.Accounts.ID(nil)); ok {
			rec = state.Clone(old)
		}
		if rec.Guardrails == nil {
			rec.Guardrails = map[string]string{}
		}
		_, out.Replaced = rec.Guardrails[name]
		if err := fn(rec.Guardrails); err != nil {
			return err
		}
		state.Put(tx, state.Accounts, rec)
		out.Names = slices.AppendSeq([]string{}, maps.Keys(rec.Guardrails))
		slices.Sort(out.Names)
		out.Warnings = nil
		if analysis.NewEmptyWorld(a.account(), a.h.installation.Region, actions(), rec.Guardrails).RootLocked() {
			out.Warnings = []string{"the guardrails now allow nothing at all: every request is denied to everybody, the account's root included, until one of them allows something " +
				"(what no guardrail allows is denied: put one beside it that allows everything, as AWS's FullAWSAccess does) or until it is taken away with: carrel guardrail remove " + name}
		}
		return nil
	})
	return out, err
}
