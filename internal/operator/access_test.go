package operator

import (
	"context"
	"encoding/json"
	"errors"
	"io"
	"net/http"
	"strings"
	"testing"
)

// court is an Access that remembers.
type court struct{ guardrails map[string]string }

func (c *court) World(resource string) (World, error) {
	if resource == "broken" {
		return World{}, errors.New("the world is broken")
	}
	return World{World: json.RawMessage(`{"account":"123456789012"}`), Tags: map[string]string{"asked": resource}, TagsKnown: resource != ""}, nil
}

func (c *court) Guardrails() (out []Guardrail) {
	for name, text := range c.guardrails {
		out = append(out, Guardrail{name, text})
	}
	return out
}

func (c *court) PutGuardrail(_ context.Context, g Guardrail) (GuardrailSet, error) {
	if g.Text == "" {
		return GuardrailSet{}, errors.New("no policy")
	}
	_, had := c.guardrails[g.Name]
	c.guardrails[g.Name] = g.Text
	return GuardrailSet{Name: g.Name, Replaced: had, Warnings: []string{"careful"}}, nil
}

func (c *court) RemoveGuardrail(_ context.Context, name string) (GuardrailSet, error) {
	if _, ok := c.guardrails[name]; !ok {
		return GuardrailSet{}, errors.New("there is no guardrail " + name)
	}
	delete(c.guardrails, name)
	return GuardrailSet{Name: name}, nil
}

func TestPermissionsAreAskedAndSetThroughTheDoor(t *testing.T) {
	a := &court{guardrails: map[string]string{}}
	c := serve(t, t.TempDir(), &Door{Status: func() Status { return Status{} }, Access: a})
	ctx := t.Context()
	const arn = "arn:aws:iam::123456789012:user/a+b&c=d"
	if w, err := c.World(ctx, arn); err != nil || w.Tags["asked"] != arn || !w.TagsKnown || string(w.World) != `{"account":"123456789012"}` {
		t.Errorf("%+v %v", w, err)
	}
	if w, err := c.World(ctx, ""); err != nil || w.TagsKnown {
		t.Errorf("%+v %v", w, err)
	}
	if _, err := c.World(ctx, "broken"); err == nil || err.Error() != "the world is broken" {
		t.Error(err)
	}
	if s, err := c.PutGuardrail(ctx, Guardrail{"only-eu", "{}"}); err != nil || s.Replaced || len(s.Warnings) != 1 {
		t.Errorf("%+v %v", s, err)
	}
	if s, err := c.PutGuardrail(ctx, Guardrail{"only-eu", "{ }"}); err != nil || !s.Replaced {
		t.Errorf("%+v %v", s, err)
	}
	if _, err := c.PutGuardrail(ctx, Guardrail{Name: "only-eu"}); err == nil || a.guardrails["only-eu"] != "{ }" {
		t.Error(err)
	}
	if g, err := c.Guardrails(ctx); err != nil || len(g) != 1 || g[0] != (Guardrail{"only-eu", "{ }"}) {
		t.Errorf("%v %v", g, err)
	}
	if _, err := c.RemoveGuardrail(ctx, "only-us"); err == nil || len(a.guardrails) != 1 {
		t.Error(err)
	}
	if _, err := c.RemoveGuardrail(ctx, "only-eu"); err != nil || len(a.guardrails) != 0 {
		t.Error(err)
	}
	for path, body := range map[string]string{
		"put": `{"Name":"x","Text":"{}","Force":true}`, "remove": `{"Name":"x"}{}`,
	} {
		r, err := c.http.Post("http://operator/v1/access/guardrails/"+path, "application/json", strings.NewReader(body))
		if err != nil {
			t.Fatal(err)
		}
		text, _ := io.ReadAll(r.Body)
		r.Body.Close()
		if r.StatusCode != http.StatusBadRequest || len(a.guardrails) != 0 {
			t.Errorf("%s: %d %s", path, r.StatusCode, text)
		}
	}
}
