package iam

import (
	"context"
	"net/url"
	"regexp"
	"slices"
	"strings"

	"carrel/internal/api/iam"
	"carrel/internal/api/shape"
	"carrel/internal/arn"
	"carrel/internal/service"
	"carrel/internal/state"
)

const (
	oidcProviders      = 100 // per account
	clientsPerProvider = 100
	thumbprints        = 5 // per provider
)

func (s *Service) oidcARN(p *state.OIDCProvider) string {
	return arn.Of(s.Partition, s.AccountID, "oidc-provider/", p.URL).String()
}

// findOIDC finds a provider by its ARN; missing is the text when there is none. Within a *state.Tx the commit checks that it has not changed.
func (s *Service) findOIDC(r state.Reader, name *string, missing string) (*state.OIDCProvider, error) {
	a, err := arn.Parse(shape.Val(name))
	if err != nil || a.Service != "iam" || !strings.HasPrefix(a.Resource, "oidc-provider/") {
		return nil, invalidInput("ARN %s is not valid.", shape.Val(name))
	}
	p, ok := state.Get(r, state.OIDCProviders, strings.TrimPrefix(a.Resource, "oidc-provider/"))
	if !ok || s.oidcARN(p) != *name {
		return nil, noSuchEntity(missing, *name)
	}
	return p, nil
}

const noOIDC = "OpenIDConnect Provider not found for arn %s"

var (
	hostName = regexp.MustCompile(`^([A-Za-z0-9]([A-Za-z0-9-]{0,61}[A-Za-z0-9])?)(\.[A-Za-z0-9]([A-Za-z0-9-]{0,61}[A-Za-z0-9])?)*$`)
	portText = regexp.MustCompile(`^[1-9][0-9]{0,4}$`)
	urlPath  = regexp.MustCompile(`^(/[A-Za-z0-9._~@:+=,-]*)*$`)
)

// issuer holds the URL of a provider to the rules, and gives it as it is kept: without "https://". What tokens say of their issuer is compared with
// it character by character, so nothing is made equal here. A port, which AWS refuses, is taken: an identity provider of a private network often has one.
func issuer(text string) (string, error) {
	u, err := url.Parse(text)
	if err != nil || u.Scheme == "" || u.Host == "" {
		return "", invalidValue("Invalid Open ID Connect Provider URL")
	}
	rest, ok := strings.CutPrefix(text, "https://")
	if !ok {
		return "", invalidInput("Invalid Open ID Connect Provider URL. The URL must begin with https://.")
	}
	host, path := rest, ""
	if at := strings.IndexByte(rest, '/'); at >= 0 {
		host, path = rest[:at], rest[at:]
	}
	name, port, ported := strings.Cut(host, ":")
	const most = 253
	switch {
	case len(name) > most || !hostName.MatchString(name):
	case ported && (!portText.MatchString(port) || port == "443" || len(port) == 5 && port > "65535"):
	case !urlPath.MatchString(path) || strings.Contains(path+"/", "/./") || strings.Contains(path+"/", "/../") || strings.Contains(path, "//"):
	default:
		return rest, nil
	}
	return "", invalidInput("Invalid Open ID Connect Provider URL.")
}

// checkThumbprints gives thumbprints as they are kept.
func checkThumbprints(list []string) ([]string, error) {
	if len(list) > thumbprints {
		return nil, invalidInput("Thumbprint list must contain fewer than %d entries.", thumbprints) // AWS's words; five are taken there too
	}
	var kept []string
	for _, t := range list {
		if len(t) != 40 {
			return nil, invalidInput("Thumbprint must be exactly 40 characters.")
		}
		kept = append(kept, strings.ToLower(t))
	}
	return kept, nil
}

// CreateOpenIDConnectProvider makes an identity provider of its URL. Without thumbprints its certificate must be one that the system trusts.
func (s *Service) CreateOpenIDConnectProvider(ctx context.Context, _ service.Call, in *iam.CreateOpenIDConnectProviderInput) (*iam.CreateOpenIDConnectProviderOutput, error) {
	where, err := issuer(shape.Val(in.Url))
	if err != nil {
		return nil, err
	}
	prints, err := checkThumbprints(in.ThumbprintList)
	if err != nil {
		return nil, err
	}
	if err := oidcTags.check(in.Tags); err != nil {
		return nil, err
	}
	tags := oidcTags.merge(nil, in.Tags)
	p := &state.OIDCProvider{Meta: state.Meta{Tags: tags}, URL: where, Thumbprints: prints}
	for _, id := range in.ClientIDList {
		if err := addClient(p, id); err != nil {
			return nil, err
		}
	}
	err = s.update(ctx, func(tx *state.Tx) error {
		if _, ok := state.Get(tx, state.OIDCProviders, where); ok {
			return alreadyExists("Provider with url https://%s already exists.", where)
		}
		tx.Guard(state.OIDCProviderTable, "")
		if state.Count(tx, state.OIDCProviders) >= oidcProviders {
			return overQuota("OpenIdConnectProvidersPerAccount", oidcProviders)
		}
		rec := state.Clone(p)
		rec.Created = tx.Now()
		state.Put(tx, state.OIDCProviders, rec)
		return nil
	})
	if err != nil {
		return nil, err
	}
	return &iam.CreateOpenIDConnectProviderOutput{OpenIDConnectProviderArn: shape.Ptr(s.oidcARN(p)), Tags: tagList(tags)}, nil
}

// addClient adds an audience; one that is there already is no error.
func addClient(p *state.OIDCProvider, id string) error {
	if slices.Contains(p.ClientIDs, id) {
		return nil
	}
	if len(p.ClientIDs) >= clientsPerProvider {
		return overQuota("ClientIdsPerOpenIdConnectProvider", clientsPerProvider)
	}
	p.ClientIDs = append(p.ClientIDs, id)
	return nil
}

// GetOpenIDConnectProvider describes a provider.
func (s *Service) GetOpenIDConnectProvider(_ context.Context, _ service.Call, in *iam.GetOpenIDConnectProviderInput) (*iam.GetOpenIDConnectProviderOutput, error) {
	p, err := s.findOIDC(s.DB.Snapshot(), in.OpenIDConnectProviderArn, noOIDC)
	if err != nil {
		return nil, err
	}
	return &iam.GetOpenIDConnectProviderOutput{Url: shape.Ptr(p.URL), ClientIDList: slices.Clone(p.ClientIDs), ThumbprintList: slices.Clone(p.Thumbprints), CreateDate: shape.Ptr(p.Created), Tags: tagList(p.Tags)}, nil
}

// ListOpenIDConnectProviders lists the providers in the order of their URLs.
func (s *Service) ListOpenIDConnectProviders(context.Context, service.Call, *iam.ListOpenIDConnectProvidersInput) (*iam.ListOpenIDConnectProvidersOutput, error) {
	out := &iam.ListOpenIDConnectProvidersOutput{OpenIDConnectProviderList: []iam.OpenIDConnectProviderListEntry{}}
	for p := range state.All(s.DB.Snapshot(), state.OIDCProviders) {
		out.OpenIDConnectProviderList = append(out.OpenIDConnectProviderList, iam.OpenIDConnectProviderListEntry{Arn: shape.Ptr(s.oidcARN(p))})
	}
	slices.SortFunc(out.OpenIDConnectProviderList, func(a, b iam.OpenIDConnectProviderListEntry) int { return strings.Compare(*a.Arn, *b.Arn) })
	return out, nil
}

// changeOIDC lets fn change a provider.
func (s *Service) changeOIDC(ctx context.Context, name *string, fn func(*state.OIDCProvider) error) error {
	return s.update(ctx, func(tx *state.Tx) error {
		old, err := s.findOIDC(tx, name, noOIDC)
		if err != nil {
			return err
		}
		p := state.Clone(old)
		if err := fn(p); err != nil {
			return err
		}
		state.Put(tx, state.OIDCProviders, p)
		return nil
	})
}

// UpdateOpenIDConnectProviderThumbprint replaces the thumbprints.
func (s *Service) UpdateOpenIDConnectProviderThumbprint(ctx context.Context, _ service.Call, in *iam.UpdateOpenIDConnectProviderThumbprintInput) (*iam.UpdateOpenIDConnectProviderThumbprintOutput, error) {
	prints, err := checkThumbprints(in.ThumbprintList)
	if err != nil {
		return nil, err
	}
	return &iam.UpdateOpenIDConnectProviderThumbprintOutput{}, s.changeOIDC(ctx, in.OpenIDConnectProviderArn, func(p *state.OIDCProvider) error {
		p.Thumbprints = slices.Clone(prints)
		return nil
	})
}

// AddClientIDToOpenIDConnectProvider adds an audience that tokens may be for.
func (s *Service) AddClientIDToOpenIDConnectProvider(ctx context.Context, _ service.Call, in *iam.AddClientIDToOpenIDConnectProviderInput) (*iam.AddClientIDToOpenIDConnectProviderOutput, error) {
	return &iam.AddClientIDToOpenIDConnectProviderOutput{}, s.changeOIDC(ctx, in.OpenIDConnectProviderArn, func(p *state.OIDCProvider) error {
		return addClient(p, shape.Val(in.ClientID))
	})
}

// RemoveClientIDFromOpenIDConnectProvider removes an audience; one that is not there is no error.
func (s *Service) RemoveClientIDFromOpenIDConnectProvider(ctx context.Context, _ service.Call, in *iam.RemoveClientIDFromOpenIDConnectProviderInput) (*iam.RemoveClientIDFromOpenIDConnectProviderOutput, error) {
	return &iam.RemoveClientIDFromOpenIDConnectProviderOutput{}, s.changeOIDC(ctx, in.OpenIDConnectProviderArn, func(p *state.OIDCProvider) error {
		p.ClientIDs = slices.DeleteFunc(p.ClientIDs, func(id string) bool { return id == shape.Val(in.ClientID) })
		return nil
	})
}

// DeleteOpenIDConnectProvider removes a provider. One that is not there is an error in AWS, though its reference says otherwise.
func (s *Service) DeleteOpenIDConnectProvider(ctx context.Context, _ service.Call, in *iam.DeleteOpenIDConnectProviderInput) (*iam.DeleteOpenIDConnectProviderOutput, error) {
	return &iam.DeleteOpenIDConnectProviderOutput{}, s.update(ctx, func(tx *state.Tx) error {
		p, err := s.findOIDC(tx, in.OpenIDConnectProviderArn, "OpenId connect Provider %s cannot be found.")
		if err != nil {
			return err
		}
		state.Delete(tx, state.OIDCProviders, p.URL)
		return nil
	})
}

func (s *Service) taggedOIDC(name *string) taggable {
	return func(tx *state.Tx) (*state.Meta, func(), error) {
		found, err := s.findOIDC(tx, name, noOIDC)
		if err != nil {
			return nil, nil, err
		}
		p := state.Clone(found)
		return &p.Meta, func() { state.Put(tx, state.OIDCProviders, p) }, nil
	}
}

// TagOpenIDConnectProvider adds or replaces tags.
func (s *Service) TagOpenIDConnectProvider(ctx context.Context, _ service.Call, in *iam.TagOpenIDConnectProviderInput) (*iam.TagOpenIDConnectProviderOutput, error) {
	return &iam.TagOpenIDConnectProviderOutput{}, s.tag(ctx, oidcTags, in.Tags, s.taggedOIDC(in.OpenIDConnectProviderArn))
}

// UntagOpenIDConnectProvider removes tags; keys that the provider does not have are no error.
func (s *Service) UntagOpenIDConnectProvider(ctx context.Context, _ service.Call, in *iam.UntagOpenIDConnectProviderInput) (*iam.UntagOpenIDConnectProviderOutput, error) {
	return &iam.UntagOpenIDConnectProviderOutput{}, s.untag(ctx, oidcTags, in.TagKeys, s.taggedOIDC(in.OpenIDConnectProviderArn))
}

// ListOpenIDConnectProviderTags lists a provider's tags.
func (s *Service) ListOpenIDConnectProviderTags(_ context.Context, _ service.Call, in *iam.ListOpenIDConnectProviderTagsInput) (*iam.ListOpenIDConnectProviderTagsOutput, error) {
	p, err := s.findOIDC(s.DB.Snapshot(), in.OpenIDConnectProviderArn, noOIDC)
	if err != nil {
		return nil, err
	}
	tags, next, err := tagPage(p.Tags, in.Marker, in.MaxItems)
	if err != nil {
		return nil, err
	}
	return &iam.ListOpenIDConnectProviderTagsOutput{Tags: tags, IsTruncated: shape.Ptr(next != nil), Marker: next}, nil
}
