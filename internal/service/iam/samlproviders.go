package iam

import (
	"context"
	"encoding/base32"
	"encoding/pem"
	"io"
	"regexp"
	"slices"
	"strings"
	"time"

	"carrel/internal/api/iam"
	"carrel/internal/api/shape"
	"carrel/internal/arn"
	"carrel/internal/awserr"
	"carrel/internal/federation/saml"
	"carrel/internal/service"
	"carrel/internal/state"
)

const (
	samlProviders = 100 // per account
	samlKeys      = 2   // private keys per provider, so that one can be changed for another
)

// validForAges is the ValidUntil of a provider whose metadata does not say.
func validForAges(now time.Time) time.Time { return now.AddDate(100, 0, 0) }

func (s *Service) samlARN(name string) string {
	return arn.Of(s.Partition, s.AccountID, "saml-provider/", name).String()
}

// findSAML finds a provider by its ARN. Within a *state.Tx the commit checks that it has not changed.
func (s *Service) findSAML(r state.Reader, name *string) (*state.SAMLProvider, error) {
	a, err := arn.Parse(shape.Val(name))
	if err != nil || a.Service != "iam" || !strings.HasPrefix(a.Resource, "saml-provider/") {
		return nil, invalidInput("ARN %s is not valid.", shape.Val(name))
	}
	p, ok := state.Get(r, state.SAMLProviders, strings.TrimPrefix(a.Resource, "saml-provider/"))
	if !ok || s.samlARN(p.Name) != *name {
		return nil, noSuchEntity("Manifest not found for arn %s", *name)
	}
	return p, nil
}

// newKeyID draws the id of a provider or of a key: 32 letters and digits (privateKeyIdType).
func (s *Service) newKeyID() (string, error) {
	raw := make([]byte, 20)
	if _, err := io.ReadFull(s.Rand, raw); err != nil {
		return "", err
	}
	return base32.StdEncoding.EncodeToString(raw), nil
}

var samlName = regexp.MustCompile(`^[\w._-]{1,128}$`)

// privateKey reads a key that decrypts assertions.
func (s *Service) privateKey(text *string, now time.Time) (state.SAMLPrivateKey, error) {
	block, rest := pem.Decode([]byte(*text))
	bad := invalidInput("Invalid private key: Key format is not recognized.")
	if block == nil || strings.TrimSpace(string(rest)) != "" {
		return state.SAMLPrivateKey{}, bad
	}
	if _, err := saml.ParseKey(*text); err != nil {
		return state.SAMLPrivateKey{}, bad
	}
	id, err := s.newKeyID()
	if err != nil {
		return state.SAMLPrivateKey{}, awserr.Fault(err)
	}
	return state.SAMLPrivateKey{ID: id, Added: now, PEM: state.Secret(pem.EncodeToMemory(block))}, nil
}

// checkKeys refuses a provider that asks for encryption and could not decrypt.
func checkKeys(p *state.SAMLProvider) error {
	if p.Encryption == string(iam.AssertionEncryptionModeTypeRequired) && len(p.Keys) == 0 {
		return invalidInput("Assertion encryption mode cannot be set to Required because no private key is provided.")
	}
	return nil
}

// setMetadata reads a metadata document into p, as sts will when it verifies assertions with it.
func setMetadata(p *state.SAMLProvider, document string, now time.Time) error {
	m, err := saml.ParseMetadata(document)
	if err != nil {
		return awserr.Model("InvalidInput", "Could not parse metadata").WithStatus(400).Because(err)
	}
	p.Metadata, p.ValidUntil = document, m.ValidUntil
	if m.ValidUntil.IsZero() {
		p.ValidUntil = validForAges(now)
	}
	return nil
}

// CreateSAMLProvider makes an identity provider of a metadata document.
func (s *Service) CreateSAMLProvider(ctx context.Context, _ service.Call, in *iam.CreateSAMLProviderInput) (*iam.CreateSAMLProviderOutput, error) {
	name := shape.Val(in.Name)
	if !samlName.MatchString(name) {
		return nil, invalidInput("The name of a SAML provider must be 1 to 128 characters, letters, digits and . _ - only.")
	}
	if err := samlTags.check(in.Tags); err != nil {
		return nil, err
	}
	tags := samlTags.merge(nil, in.Tags)
	id, err := s.newKeyID()
	if err != nil {
		return nil, awserr.Fault(err)
	}
	err = s.update(ctx, func(tx *state.Tx) error {
		p := &state.SAMLProvider{Meta: state.Meta{Created: tx.Now(), Tags: tags}, Name: name, UUID: id, Encryption: string(shape.Val(in.AssertionEncryptionMode))}
		if err := setMetadata(p, shape.Val(in.SAMLMetadataDocument), tx.Now()); err != nil {
			return err
		}
		if in.AddPrivateKey != nil {
			key, err := s.privateKey(in.AddPrivateKey, tx.Now())
			if err != nil {
				return err
			}
			p.Keys = []state.SAMLPrivateKey{key}
		}
		if err := checkKeys(p); err != nil {
			return err
		}
		taken := func() error { return alreadyExists("Provider with name %s already exists.", name) }
		if _, ok := state.Get(tx, state.SAMLProviders, name); ok {
			return taken()
		}
		if err := tx.Claim("samlprovider/"+strings.ToLower(name), name); err != nil {
			return taken()
		}
		tx.Guard(state.SAMLProviderTable, "")
		if state.Count(tx, state.SAMLProviders) >= samlProviders {
			return overQuota("SAMLProvidersPerAccount", samlProviders)
		}
		state.Put(tx, state.SAMLProviders, p)
		return nil
	})
	if err != nil {
		return nil, err
	}
	return &iam.CreateSAMLProviderOutput{SAMLProviderArn: shape.Ptr(s.samlARN(name)), Tags: tagList(tags)}, nil
}

// GetSAMLProvider describes a provider; of its private keys it tells the ids alone.
func (s *Service) GetSAMLProvider(_ context.Context, _ service.Call, in *iam.GetSAMLProviderInput) (*iam.GetSAMLProviderOutput, error) {
	p, err := s.findSAML(s.DB.Snapshot(), in.SAMLProviderArn)
	if err != nil {
		return nil, err
	}
	out := &iam.GetSAMLProviderOutput{SAMLProviderUUID: shape.Ptr(p.UUID), SAMLMetadataDocument: shape.Ptr(p.Metadata), CreateDate: shape.Ptr(p.Created), ValidUntil: shape.Ptr(p.ValidUntil), Tags: tagList(p.Tags)}
	if p.Encryption != "" {
		out.AssertionEncryptionMode = shape.Ptr(iam.AssertionEncryptionModeType(p.Encryption))
	}
	for _, key := range p.Keys {
		out.PrivateKeyList = append(out.PrivateKeyList, iam.SAMLPrivateKey{KeyId: shape.Ptr(key.ID), Timestamp: shape.Ptr(key.Added)})
	}
	return out, nil
}

// ListSAMLProviders lists the providers in the order of their names.
func (s *Service) ListSAMLProviders(context.Context, service.Call, *iam.ListSAMLProvidersInput) (*iam.ListSAMLProvidersOutput, error) {
	out := &iam.ListSAMLProvidersOutput{SAMLProviderList: []iam.SAMLProviderListEntry{}}
	for p := range state.All(s.DB.Snapshot(), state.SAMLProviders) {
		out.SAMLProviderList = append(out.SAMLProviderList, iam.SAMLProviderListEntry{Arn: shape.Ptr(s.samlARN(p.Name)), ValidUntil: shape.Ptr(p.ValidUntil), CreateDate: shape.Ptr(p.Created)})
	}
	slices.SortFunc(out.SAMLProviderList, func(a, b iam.SAMLProviderListEntry) int { return strings.Compare(*a.Arn, *b.Arn) })
	return out, nil
}

// UpdateSAMLProvider changes the metadata document, the encryption or the private keys of a provider.
func (s *Service) UpdateSAMLProvider(ctx context.Context, _ service.Call, in *iam.UpdateSAMLProviderInput) (*iam.UpdateSAMLProviderOutput, error) {
	switch {
	case in.SAMLMetadataDocument == nil && in.AssertionEncryptionMode == nil && in.AddPrivateKey == nil && in.RemovePrivateKey == nil:
		return nil, invalidInput("No updates are defined.")
	case in.AddPrivateKey != nil && in.RemovePrivateKey != nil:
		return nil, invalidInput("Unable to add and remove private keys in the same request.")
	}
	err := s.update(ctx, func(tx *state.Tx) error {
		old, err := s.findSAML(tx, in.SAMLProviderArn)
		if err != nil {
			return err
		}
		p := state.Clone(old)
		if in.SAMLMetadataDocument != nil {
			if err := setMetadata(p, *in.SAMLMetadataDocument, tx.Now()); err != nil {
				return err
			}
		}
		if in.AssertionEncryptionMode != nil {
			p.Encryption = string(*in.AssertionEncryptionMode)
		}
		if err := s.updateKeys(p, in, tx.Now()); err != nil {
			return err
		}
		if err := checkKeys(p); err != nil {
			return err
		}
		state.Put(tx, state.SAMLProviders, p)
		return nil
	})
	if err != nil {
		return nil, err
	}
	return &iam.UpdateSAMLProviderOutput{SAMLProviderArn: in.SAMLProviderArn}, nil
}

func (s *Service) updateKeys(p *state.SAMLProvider, in *iam.UpdateSAMLProviderInput, now time.Time) error {
	if in.AddPrivateKey != nil {
		if len(p.Keys) >= samlKeys {
			return awserr.Model("LimitExceeded", "Private key limit of %d is reached.", samlKeys).WithStatus(409)
		}
		key, err := s.privateKey(in.AddPrivateKey, now)
		if err != nil {
			return err
		}
		p.Keys = append(p.Keys, key)
	}
	if in.RemovePrivateKey == nil {
		return nil
	}
	left := slices.DeleteFunc(slices.Clone(p.Keys), func(k state.SAMLPrivateKey) bool { return k.ID == *in.RemovePrivateKey })
	switch {
	case len(left) == len(p.Keys):
		return invalidInput("Failed to remove private key because the Key ID does not match a private key.")
	case len(left) == 0 && p.Encryption == string(iam.AssertionEncryptionModeTypeRequired):
		return invalidInput("Failed to remove private key. The last private key cannot be removed while assertion encryption is required.")
	}
	p.Keys = left
	return nil
}

// DeleteSAMLProvider removes a provider. Roles that trust it stay, and cannot be assumed by it any more.
func (s *Service) DeleteSAMLProvider(ctx context.Context, _ service.Call, in *iam.DeleteSAMLProviderInput) (*iam.DeleteSAMLProviderOutput, error) {
	return &iam.DeleteSAMLProviderOutput{}, s.update(ctx, func(tx *state.Tx) error {
		p, err := s.findSAML(tx, in.SAMLProviderArn)
		if err != nil {
			return err
		}
		state.Delete(tx, state.SAMLProviders, p.Name)
		tx.Release("samlprovider/" + strings.ToLower(p.Name))
		return nil
	})
}

func (s *Service) taggedSAML(name *string) taggable {
	return func(tx *state.Tx) (*state.Meta, func(), error) {
		found, err := s.findSAML(tx, name)
		if err != nil {
			return nil, nil, err
		}
		p := state.Clone(found)
		return &p.Meta, func() { state.Put(tx, state.SAMLProviders, p) }, nil
	}
}

// TagSAMLProvider adds or replaces tags.
func (s *Service) TagSAMLProvider(ctx context.Context, _ service.Call, in *iam.TagSAMLProviderInput) (*iam.TagSAMLProviderOutput, error) {
	return &iam.TagSAMLProviderOutput{}, s.tag(ctx, samlTags, in.Tags, s.taggedSAML(in.SAMLProviderArn))
}

// UntagSAMLProvider removes tags; keys that the provider does not have are no error.
func (s *Service) UntagSAMLProvider(ctx context.Context, _ service.Call, in *iam.UntagSAMLProviderInput) (*iam.UntagSAMLProviderOutput, error) {
	return &iam.UntagSAMLProviderOutput{}, s.untag(ctx, samlTags, in.TagKeys, s.taggedSAML(in.SAMLProviderArn))
}

// ListSAMLProviderTags lists a provider's tags.
func (s *Service) ListSAMLProviderTags(_ context.Context, _ service.Call, in *iam.ListSAMLProviderTagsInput) (*iam.ListSAMLProviderTagsOutput, error) {
	p, err := s.findSAML(s.DB.Snapshot(), in.SAMLProviderArn)
	if err != nil {
		return nil, err
	}
	tags, next, err := tagPage(p.Tags, in.Marker, in.MaxItems)
	if err != nil {
		return nil, err
	}
	return &iam.ListSAMLProviderTagsOutput{Tags: tags, IsTruncated: shape.Ptr(next != nil), Marker: next}, nil
}
