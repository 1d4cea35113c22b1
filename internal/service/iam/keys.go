package iam

import (
	"cmp"
	"context"
	"slices"

	"carrel/internal/api/iam"
	"carrel/internal/api/shape"
	"carrel/internal/awserr"
	"carrel/internal/ident"
	"carrel/internal/identity"
	"carrel/internal/service"
	"carrel/internal/state"
)

// holder is whose keys an operation is about: a user, or the account's root (user nil).
type holder struct{ user *state.User }

// holderOf is the user of that name, or the caller when no name is given. The root has no name: only its own keys, by itself. Sessions of roles and
// federated users must give one.
func holderOf(r state.Reader, call service.Call, name *string) (holder, error) {
	if name == nil && call.Principal.Type() == identity.Root {
		return holder{}, nil
	}
	var user *state.User
	var err error
	if name != nil {
		user, err = findUser(r, *name)
	} else {
		user, err = caller(r, call.Principal)
	}
	return holder{user}, err
}

func (h holder) id() ident.UserID {
	if h.user == nil {
		return ""
	}
	return h.user.ID
}

// name is nil for the root.
func (h holder) name() *string {
	if h.user == nil {
		return nil
	}
	return shape.Ptr(h.user.Name)
}

// keys are the holder's keys, oldest first.
func (h holder) keys(r state.Reader) []*state.AccessKey {
	index := "root"
	if h.user != nil {
		index = string(h.user.ID)
	}
	keys := slices.Collect(state.AllBy(r, state.AccessKeys, state.AccessKeysByUser, index))
	slices.SortFunc(keys, func(a, b *state.AccessKey) int {
		return cmp.Or(a.Created.Compare(b.Created), cmp.Compare(a.ID, b.ID))
	})
	return keys
}

// touch writes the holder's record unchanged, so that of two transactions that count its keys one must count again: without it
// two could each make the last key that is allowed, or make one for a user who is being deleted.
func (h holder) touch(tx *state.Tx) {
	if h.user != nil {
		state.Put(tx, state.Users, state.Clone(h.user))
		return
	}
	for account := range state.All(tx, state.Installations) {
		state.Put(tx, state.Installations, state.Clone(account))
	}
}

// find gives the holder's own key; somebody else's is not found, so that nobody changes it by naming it.
func (h holder) find(tx *state.Tx, id string) (*state.AccessKey, error) {
	key, ok := state.Get(tx, state.AccessKeys, id)
	if !ok || key.UserID != h.id() {
		return nil, noSuchKey(id)
	}
	return key, nil
}

// lastRoot tells that key is the only active key of the root. Without it nobody could get back into the account: there is no
// console password beside it, as AWS has.
func (h holder) lastRoot(r state.Reader, key *state.AccessKey) bool {
	return h.user == nil && key.Active && !slices.ContainsFunc(h.keys(r), func(k *state.AccessKey) bool { return k.Active && k.ID != key.ID })
}

func status(key *state.AccessKey) *iam.StatusType {
	if key.Active {
		return shape.Ptr(iam.StatusTypeActive)
	}
	return shape.Ptr(iam.StatusTypeInactive)
}

// CreateAccessKey makes a key for a user, or for the caller when no name is given. Only this answer carries the secret.
func (s *Service) CreateAccessKey(ctx context.Context, call service.Call, in *iam.CreateAccessKeyInput) (*iam.CreateAccessKeyOutput, error) {
	id, secret := ident.NewAccessKeyID(s.Rand), identity.NewSecret(s.Rand)
	var key *state.AccessKey
	var h holder
	err := s.update(ctx, func(tx *state.Tx) (err error) {
		if h, err = holderOf(tx, call, in.UserName); err != nil {
			return err
		}
		h.touch(tx)
		if len(h.keys(tx)) >= keysPerUser {
			return overQuota("AccessKeysPerUser", keysPerUser)
		}
		key = &state.AccessKey{Meta: state.Meta{Created: tx.Now()}, ID: id, UserID: h.id(), Secret: secret, Active: true}
		state.Put(tx, state.AccessKeys, key)
		return nil
	})
	if err != nil {
		return nil, err
	}
	return &iam.CreateAccessKeyOutput{AccessKey: &iam.AccessKey{
		UserName: h.name(), AccessKeyId: shape.Ptr(string(id)), Status: status(key), CreateDate: shape.Ptr(key.Created),
		SecretAccessKey: shape.Ptr(secret.Reveal()), // the one time
	}}, nil
}

// ListAccessKeys lists the keys of a user, or of the caller, without secrets.
func (s *Service) ListAccessKeys(_ context.Context, call service.Call, in *iam.ListAccessKeysInput) (*iam.ListAccessKeysOutput, error) {
	snap := s.DB.Snapshot()
	h, err := holderOf(snap, call, in.UserName)
	if err != nil {
		return nil, err
	}
	position := func(k *state.AccessKey) string {
		return k.Created.UTC().Format("20060102150405.000000000") + string(k.ID)
	}
	keys, next, err := page(h.keys(snap), position, in.Marker, in.MaxItems)
	if err != nil {
		return nil, err
	}
	out := &iam.ListAccessKeysOutput{AccessKeyMetadata: make([]iam.AccessKeyMetadata, 0, len(keys)), IsTruncated: shape.Ptr(next != nil), Marker: next}
	for _, k := range keys {
		out.AccessKeyMetadata = append(out.AccessKeyMetadata, iam.AccessKeyMetadata{
			UserName: h.name(), AccessKeyId: shape.Ptr(string(k.ID)), Status: status(k), CreateDate: shape.Ptr(k.Created),
		})
	}
	return out, nil
}

// UpdateAccessKey makes a key active or inactive. The root's last active key stays active (see lastRoot).
func (s *Service) UpdateAccessKey(ctx context.Context, call service.Call, in *iam.UpdateAccessKeyInput) (*iam.UpdateAccessKeyOutput, error) {
	want := shape.Val(in.Status)
	if want != iam.StatusTypeActive && want != iam.StatusTypeInactive {
		return nil, invalidInput("The status of an access key can be set to Active or Inactive only.")
	}
	return &iam.UpdateAccessKeyOutput{}, s.update(ctx, func(tx *state.Tx) error {
		h, err := holderOf(tx, call, in.UserName)
		if err != nil {
			return err
		}
		old, err := h.find(tx, shape.Val(in.AccessKeyId))
		if err != nil {
			return err
		}
		h.touch(tx)
		if want == iam.StatusTypeInactive && h.lastRoot(tx, old) {
			return invalidInput("Cannot deactivate the last active access key of the account's root user.")
		}
		key := state.Clone(old)
		key.Active = want == iam.StatusTypeActive
		state.Put(tx, state.AccessKeys, key)
		return nil
	})
}

// DeleteAccessKey removes a key. The root's last active key stays (see lastRoot).
func (s *Service) DeleteAccessKey(ctx context.Context, call service.Call, in *iam.DeleteAccessKeyInput) (*iam.DeleteAccessKeyOutput, error) {
	return &iam.DeleteAccessKeyOutput{}, s.update(ctx, func(tx *state.Tx) error {
		h, err := holderOf(tx, call, in.UserName)
		if err != nil {
			return err
		}
		key, err := h.find(tx, shape.Val(in.AccessKeyId))
		if err != nil {
			return err
		}
		h.touch(tx)
		if h.lastRoot(tx, key) {
			return deleteConflict("Cannot delete the last active access key of the account's root user.")
		}
		state.Delete(tx, state.AccessKeys, string(key.ID))
		state.Delete(tx, state.Uses, string(key.ID))
		return nil
	})
}

// GetAccessKeyLastUsed tells when a key signed last, and for which service; "N/A" where that is not known (IAM API reference).
func (s *Service) GetAccessKeyLastUsed(_ context.Context, _ service.Call, in *iam.GetAccessKeyLastUsedInput) (*iam.GetAccessKeyLastUsedOutput, error) {
	snap := s.DB.Snapshot()
	key, ok := state.Get(snap, state.AccessKeys, shape.Val(in.AccessKeyId))
	if !ok {
		return nil, noSuchKey(shape.Val(in.AccessKeyId))
	}
	out := &iam.GetAccessKeyLastUsedOutput{AccessKeyLastUsed: &iam.AccessKeyLastUsed{ServiceName: shape.Ptr("N/A"), Region: shape.Ptr("N/A")}}
	if key.UserID != "" {
		user, ok := state.Get(snap, state.Users, string(key.UserID))
		if !ok {
			return nil, awserr.Fault(errOrphan(key.ID))
		}
		out.UserName = shape.Ptr(user.Name)
	}
	if s.LastUsed != nil {
		if use, used := s.LastUsed(key.ID); used {
			out.AccessKeyLastUsed = &iam.AccessKeyLastUsed{LastUsedDate: shape.Ptr(use.At), ServiceName: shape.Ptr(use.Service), Region: shape.Ptr(use.Region)}
		}
	}
	return out, nil
}
