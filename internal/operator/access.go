package operator

import (
	"context"
	"encoding/json"
	"net/http"
	"net/url"
)

// Access is what can be asked and set about permissions.
type Access interface {
	// World is everybody and every policy that decides who may do what, and the tags of the resource with an ARN where one is given.
	World(resource string) (World, error)
	// Guardrails are the account's, by name.
	Guardrails() []Guardrail
	// PutGuardrail makes or replaces one. A text that is no policy is an error that says where.
	PutGuardrail(ctx context.Context, g Guardrail) (GuardrailSet, error)
	// RemoveGuardrail takes one away; an unknown name is an error that lists the known ones.
	RemoveGuardrail(ctx context.Context, name string) (GuardrailSet, error)
}

// World is what decides who may do what.
type World struct {
	// World is analysis's.
	World json.RawMessage `json:"world"`
	// Tags are the resource's; TagsKnown tells that it was found.
	Tags      map[string]string `json:"tags,omitempty"`
	TagsKnown bool              `json:"tagsKnown"`
}

// Guardrail is a policy that says what anybody in the account, its root included, may do at most.
type Guardrail struct {
	Name string `json:"name"`
	Text string `json:"text"`
}

// GuardrailSet says what became of the guardrails.
type GuardrailSet struct {
	Name string `json:"name"`
	// Replaced tells that there was one of the name.
	Replaced bool `json:"replaced"`
	// Names are all that there are now.
	Names []string `json:"names"`
	// Warnings say what one might not have wanted.
	Warnings []string `json:"warnings,omitempty"`
}

// accessRoutes are the routes about permissions.
func (d *Door) accessRoutes(mux *http.ServeMux) {
	mux.HandleFunc("GET /v1/access/world", func(w http.ResponseWriter, r *http.Request) {
		out, err := d.Access.World(r.URL.Query().Get("resource"))
		if err != nil {
			refuse(w, http.StatusBadRequest, err)
			return
		}
		reply(w, out)
	})
	mux.HandleFunc("GET /v1/access/guardrails", func(w http.ResponseWriter, _ *http.Request) { reply(w, d.Access.Guardrails()) })
	mux.HandleFunc("POST /v1/access/guardrails/put", func(w http.ResponseWriter, r *http.Request) { answer(w, r, d.Access.PutGuardrail) })
	mux.HandleFunc("POST /v1/access/guardrails/remove", func(w http.ResponseWriter, r *http.Request) {
		answer(w, r, func(ctx context.Context, in struct{ Name string }) (GuardrailSet, error) {
			return d.Access.RemoveGuardrail(ctx, in.Name)
		})
	})
}

// answer reads a request strictly, and does it.
func answer[I, O any](w http.ResponseWriter, r *http.Request, do func(context.Context, I) (O, error)) {
	in, err := read[I](r)
	if err != nil {
		refuse(w, http.StatusBadRequest, err)
		return
	}
	out, err := do(r.Context(), in)
	if err != nil {
		refuse(w, http.StatusBadRequest, err)
		return
	}
	reply(w, out)
}

// World asks for what decides who may do what, and for a resource's tags where its ARN is given.
func (c *Client) World(ctx context.Context, resource string) (w World, err error) {
	return w, c.call(ctx, http.MethodGet, "/v1/access/world?resource="+url.QueryEscape(resource), nil, &w)
}

// Guardrails lists the account's guardrails.
func (c *Client) Guardrails(ctx context.Context) (g []Guardrail, err error) {
	return g, c.call(ctx, http.MethodGet, "/v1/access/guardrails", nil, &g)
}

// PutGuardrail makes or replaces a guardrail.
func (c *Client) PutGuardrail(ctx context.Context, g Guardrail) (s GuardrailSet, err error) {
	return s, c.call(ctx, http.MethodPost, "/v1/access/guardrails/put", g, &s)
}

// RemoveGuardrail takes a guardrail away.
func (c *Client) RemoveGuardrail(ctx context.Context, name string) (s GuardrailSet, err error) {
	return s, c.call(ctx, http.MethodPost, "/v1/access/guardrails/remove", map[string]string{"Name": name}, &s)
}
