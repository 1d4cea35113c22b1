package iam

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"carrel/internal/api/iam"
	"carrel/internal/api/shape"
	"carrel/internal/awserr"
	"carrel/internal/clock"
	"carrel/internal/ident"
	"carrel/internal/identity/identitytest"
	"carrel/internal/service"
	"carrel/internal/state"
	"carrel/internal/state/memory"
	"carrel/internal/state/statetest"
)

const account = identitytest.Account

// world is the service on an installation with one root key.
type world struct {
	*Service
	t       *testing.T
	ctx     context.Context
	rootKey string
	gate    *gate
	callers callers
}

// gate is a store that can hold transactions back until a number of them have come, so that all of them were decided on the
// same state.
type gate struct {
	*memory.Store
	mu   sync.Mutex
	left int
	open chan struct{}
}

// arm holds the next n transactions back until the n-th.
func (g *gate) arm(n int) {
	g.mu.Lock()
	defer g.mu.Unlock()
	g.left, g.open = n, make(chan struct{})
}

func (g *gate) Transact(ctx context.Context, txn state.Txn) (state.Revision, error) {
	g.mu.Lock()
	open := g.open
	if g.left > 0 {
		if g.left--; g.left == 0 {
			close(g.open)
			g.open = nil
		}
	}
	g.mu.Unlock()
	if open != nil {
		<-open
	}
	return g.Store.Transact(ctx, txn)
}

func open(t *testing.T) *world {
	t.Helper()
	g := &gate{Store: memory.New()}
	w := &world{Service: &Service{DB: statetest.OpenDB(t, g, clock.System{}), AccountID: account, Partition: "aws", Rand: rand.Reader},
		t: t, ctx: t.Context(), rootKey: "AKIAROOTROOTROOTROOT", gate: g}
	w.put(func(tx *state.Tx) {
		state.Put(tx, state.Installations, &state.Installation{Meta: state.Meta{Created: tx.Now()}, AccountID: account, Partition: "aws"})
		state.Put(tx, state.AccessKeys, &state.AccessKey{Meta: state.Meta{Created: tx.Now()}, ID: ident.AccessKeyID(w.rootKey), Secret: "root secret", Active: true})
	})
	return w
}

func (w *world) put(fn func(*state.Tx)) {
	w.t.Helper()
	if _, err := w.DB.Update(w.ctx, func(tx *state.Tx) error { fn(tx); return nil }); err != nil {
		w.t.Fatal(err)
	}
}

// user makes a user and gives the record.
func (w *world) user(name string) *state.User {
	w.t.Helper()
	if _, err := w.CreateUser(w.ctx, service.Call{}, &iam.CreateUserInput{UserName: &name}); err != nil {
		w.t.Fatal(err)
	}
	u, err := findUser(w.DB.Snapshot(), name)
	if err != nil {
		w.t.Fatal(err)
	}
	return u
}

// key makes a key for a user, nil for the root, and gives its id.
func (w *world) key(u *state.User) string {
	w.t.Helper()
	out, err := w.CreateAccessKey(w.ctx, w.by(u), &iam.CreateAccessKeyInput{})
	if err != nil {
		w.t.Fatal(err)
	}
	return *out.AccessKey.AccessKeyId
}

func check(t *testing.T, err error, code, text string) {
	t.Helper()
	statuses := map[string]int{"NoSuchEntity": 404, "EntityAlreadyExists": 409, "LimitExceeded": 409, "DeleteConflict": 409, "InvalidInput": 400,
		"MalformedPolicyDocument": 400, "UnmodifiableEntity": 400, "PolicyNotAttachable": 400}
	var e *awserr.Error
	if !errors.As(err, &e) || e.Code != code || e.Status != statuses[code] || !strings.Contains(e.Message, text) {
		t.Errorf("error %v, want %s %d %q", err, code, statuses[code], text)
	}
}

func tags(pairs ...string) (list []iam.Tag) {
	for _, pair := range pairs {
		key, value, _ := strings.Cut(pair, "=")
		list = append(list, iam.Tag{Key: &key, Value: &value})
	}
	return list
}

func show(list []iam.Tag) string {
	var out []string
	for _, tag := range list {
		out = append(out, *tag.Key+"="+*tag.Value)
	}
	return strings.Join(out, " ")
}

func names(users []iam.User) string {
	var out []string
	for _, u := range users {
		out = append(out, *u.UserName)
	}
	return strings.Join(out, " ")
}

func TestAUserIsMadeAndRead(t *testing.T) {
	w := open(t)
	out, err := w.CreateUser(w.ctx, service.Call{}, &iam.CreateUserInput{UserName: shape.Ptr("Ada"), Path: shape.Ptr("/ops/"), Tags: tags("b=2", "a=1")})
	if err != nil {
		t.Fatal(err)
	}
	u := out.User
	if _, err := ident.ParseUserID(*u.UserId); err != nil || *u.Path != "/ops/" || *u.UserName != "Ada" || *u.Arn != "arn:aws:iam::123456789012:user/ops/Ada" ||
		u.CreateDate.IsZero() || show(u.Tags) != "a=1 b=2" {
		t.Errorf("%+v", u)
	}
	got, err := w.GetUser(w.ctx, service.Call{}, &iam.GetUserInput{UserName: shape.Ptr("Ada")})
	if err != nil || *got.User.UserId != *u.UserId || show(got.User.Tags) != "a=1 b=2" || !got.User.CreateDate.Equal(*u.CreateDate) {
		t.Errorf("%+v, %v", got, err)
	}
	t.Run("the path is / when none is given", func(t *testing.T) {
		out, err := w.CreateUser(w.ctx, service.Call{}, &iam.CreateUserInput{UserName: shape.Ptr("grace")})
		if err != nil || *out.User.Path != "/" || *out.User.Arn != "arn:aws:iam::123456789012:user/grace" || out.User.Tags != nil {
			t.Errorf("%+v, %v", out, err)
		}
	})
	t.Run("without a name the caller is read", func(t *testing.T) {
		ada, _ := findUser(w.DB.Snapshot(), "Ada")
		got, err := w.GetUser(w.ctx, w.by(ada), &iam.GetUserInput{})
		if err != nil || *got.User.UserName != "Ada" {
			t.Errorf("%+v, %v", got, err)
		}
	})
	t.Run("without a name the root reads itself", func(t *testing.T) {
		got, err := w.GetUser(w.ctx, w.by(nil), &iam.GetUserInput{})
		if err != nil || *got.User.UserId != account || *got.User.Arn != "arn:aws:iam::123456789012:root" || got.User.CreateDate.IsZero() || got.User.UserName != nil {
			t.Errorf("%+v, %v", got, err)
		}
	})
}

func TestUserOperationsRefuse(t *testing.T) {
	many := make([]string, 51)
	for i := range many {
		many[i] = fmt.Sprintf("k%d=v", i)
	}
	no := shape.Ptr("nobody")
	call := service.Call{}
	cases := []struct {
		name       string
		do         func(*world) error
		code, text string
	}{
		{"a name that is taken", func(w *world) error {
			_, err := w.CreateUser(w.ctx, call, &iam.CreateUserInput{UserName: shape.Ptr("ada")})
			return err
		}, "EntityAlreadyExists", "User with name ada already exists."},
		{"a name that is taken in another case", func(w *world) error {
			_, err := w.CreateUser(w.ctx, call, &iam.CreateUserInput{UserName: shape.Ptr("ADA")})
			return err
		}, "EntityAlreadyExists", "User with name ADA already exists."},
		{"a permissions boundary", func(w *world) error {
			_, err := w.CreateUser(w.ctx, call, &iam.CreateUserInput{UserName: no, PermissionsBoundary: shape.Ptr("arn:aws:iam::aws:policy/X")})
			return err
		}, "NoSuchEntity", "Scope ARN: arn:aws:iam::aws:policy/X does not exist or is not attachable."},
		{"tag keys that differ in case only", func(w *world) error {
			_, err := w.CreateUser(w.ctx, call, &iam.CreateUserInput{UserName: no, Tags: tags("a=1", "A=2")})
			return err
		}, "InvalidInput", "Duplicate tag keys found."},
		{"a reserved tag key", func(w *world) error {
			_, err := w.TagUser(w.ctx, call, &iam.TagUserInput{UserName: shape.Ptr("ada"), Tags: tags("AWS:x=1")})
			return err
		}, "InvalidInput", "reserved"},
		{"more tags than 50", func(w *world) error {
			if _, err := w.TagUser(w.ctx, call, &iam.TagUserInput{UserName: shape.Ptr("ada"), Tags: tags(many[:50]...)}); err != nil {
				return err
			}
			_, err := w.TagUser(w.ctx, call, &iam.TagUserInput{UserName: shape.Ptr("ada"), Tags: tags(many[50])})
			return err
		}, "LimitExceeded", "TagsPerUser: 50"},
		{"a user over the quota", func(w *world) error {
			w.MaxUsers = 2
			_, err := w.CreateUser(w.ctx, call, &iam.CreateUserInput{UserName: no})
			return err
		}, "LimitExceeded", "UsersPerAccount: 2"},
		{"reading nobody", func(w *world) error {
			_, err := w.GetUser(w.ctx, call, &iam.GetUserInput{UserName: no})
			return err
		}, "NoSuchEntity", "The user with name nobody cannot be found."},
		{"reading by another case, which ARNs in policies would not match", func(w *world) error {
			_, err := w.GetUser(w.ctx, call, &iam.GetUserInput{UserName: shape.Ptr("Ada")})
			return err
		}, "NoSuchEntity", "The user with name Ada cannot be found."},
		{"a caller who was deleted meanwhile", func(w *world) error {
			gone := w.by(&state.User{ID: "AIDAGONE", Name: "gone", Path: "/"})
			_, err := w.GetUser(w.ctx, gone, &iam.GetUserInput{})
			return err
		}, "NoSuchEntity", "The user with name gone cannot be found."},
		{"updating nobody", func(w *world) error {
			_, err := w.UpdateUser(w.ctx, call, &iam.UpdateUserInput{UserName: no, NewPath: shape.Ptr("/x/")})
			return err
		}, "NoSuchEntity", "nobody"},
		{"renaming to a name that is taken", func(w *world) error {
			_, err := w.UpdateUser(w.ctx, call, &iam.UpdateUserInput{UserName: shape.Ptr("ada"), NewUserName: shape.Ptr("GRACE")})
			return err
		}, "EntityAlreadyExists", "User with name GRACE already exists."},
		{"deleting nobody", func(w *world) error {
			_, err := w.DeleteUser(w.ctx, call, &iam.DeleteUserInput{UserName: no})
			return err
		}, "NoSuchEntity", "nobody"},
		{"deleting a user with keys", func(w *world) error {
			ada, _ := findUser(w.DB.Snapshot(), "ada")
			w.key(ada)
			_, err := w.DeleteUser(w.ctx, call, &iam.DeleteUserInput{UserName: shape.Ptr("ada")})
			return err
		}, "DeleteConflict", "Cannot delete entity, must delete access keys first."},
		{"tagging nobody", func(w *world) error {
			_, err := w.TagUser(w.ctx, call, &iam.TagUserInput{UserName: no, Tags: tags("a=1")})
			return err
		}, "NoSuchEntity", "nobody"},
		{"untagging nobody", func(w *world) error {
			_, err := w.UntagUser(w.ctx, call, &iam.UntagUserInput{UserName: no, TagKeys: []string{"a"}})
			return err
		}, "NoSuchEntity", "nobody"},
		{"tags of nobody", func(w *world) error {
			_, err := w.ListUserTags(w.ctx, call, &iam.ListUserTagsInput{UserName: no})
			return err
		}, "NoSuchEntity", "nobody"},
	}
	for _, c := range cases {
		t.Run(c.name, func(t *testing.T) {
			w := open(t)
			w.user("ada")
			w.user("grace")
			check(t, c.do(w), c.code, c.text)
			if n := state.Count(w.DB.Snapshot(), state.Users); n != 2 {
				t.Errorf("%d users after the refusal", n)
			}
		})
	}
}

func TestAUserIsRenamed(t *testing.T) {
	w := open(t)
	ada := w.user("ada")
	key := w.key(ada)
	rename := func(from, to string) {
		t.Helper()
		if _, err := w.UpdateUser(w.ctx, service.Call{}, &iam.UpdateUserInput{UserName: &from, NewUserName: &to, NewPath: shape.Ptr("/new/")}); err != nil {
			t.Fatal(err)
		}
	}
	rename("ada", "Ada") // only the case changes
	rename("Ada", "lovelace")
	got, err := w.GetUser(w.ctx, service.Call{}, &iam.GetUserInput{UserName: shape.Ptr("lovelace")})
	if err != nil || *got.User.UserId != string(ada.ID) || *got.User.Arn != "arn:aws:iam::123456789012:user/new/lovelace" {
		t.Errorf("%+v, %v", got, err)
	}
	keys, err := w.ListAccessKeys(w.ctx, service.Call{}, &iam.ListAccessKeysInput{UserName: shape.Ptr("lovelace")})
	if err != nil || len(keys.AccessKeyMetadata) != 1 || *keys.AccessKeyMetadata[0].AccessKeyId != key || *keys.AccessKeyMetadata[0].UserName != "lovelace" {
		t.Errorf("%+v, %v", keys, err)
	}
	w.user("ADA") // the old name is free again
	t.Run("nothing to change is no error", func(t *testing.T) {
		if _, err := w.UpdateUser(w.ctx, service.Call{}, &iam.UpdateUserInput{UserName: shape.Ptr("lovelace")}); err != nil {
			t.Error(err)
		}
	})
}

func TestADeletedUserIsGone(t *testing.T) {
	w := open(t)
	ada := w.user("ada")
	if _, err := w.DeleteUser(w.ctx, service.Call{}, &iam.DeleteUserInput{UserName: shape.Ptr("ada")}); err != nil {
		t.Fatal(err)
	}
	if again := w.user("Ada"); again.ID == ada.ID {
		t.Error("the new user has the old one's id")
	}
	_, err := w.ListAccessKeys(w.ctx, w.by(ada), &iam.ListAccessKeysInput{})
	check(t, err, "NoSuchEntity", "ada")
}

func TestUsersAreListedByNameAndPath(t *testing.T) {
	w := open(t)
	for _, u := range []string{"/ops/ dora", "/ops/eu/ Bob", "/ alice", "/dev/ carl", "/ Émile"} {
		path, name, _ := strings.Cut(u, " ")
		if _, err := w.CreateUser(w.ctx, service.Call{}, &iam.CreateUserInput{UserName: &name, Path: &path, Tags: tags("a=1")}); err != nil {
			t.Fatal(err)
		}
	}
	for _, c := range []struct {
		name   string
		prefix *string
		max    int32
		want   []string
	}{
		{"all on one page", nil, 0, []string{"alice Bob carl dora Émile"}},
		{"in pages of two", nil, 2, []string{"alice Bob", "carl dora", "Émile"}},
		{"exactly one page", nil, 5, []string{"alice Bob carl dora Émile"}},
		{"under a path", shape.Ptr("/ops/"), 1, []string{"Bob", "dora"}},
		{"under a path that nobody has", shape.Ptr("/none/"), 0, []string{""}},
	} {
		t.Run(c.name, func(t *testing.T) {
			in := &iam.ListUsersInput{PathPrefix: c.prefix}
			if c.max > 0 {
				in.MaxItems = &c.max
			}
			for i, want := range c.want {
				out, err := w.ListUsers(w.ctx, service.Call{}, in)
				if err != nil || names(out.Users) != want || *out.IsTruncated != (i < len(c.want)-1) || (out.Marker != nil) != *out.IsTruncated {
					t.Fatalf("page %d: %v, truncated %v, %v, want %q", i, names(out.Users), *out.IsTruncated, err, want)
				}
				for _, u := range out.Users {
					if u.Tags != nil {
						t.Error("tags are listed")
					}
				}
				in.Marker = out.Marker
			}
		})
	}
	t.Run("a user deleted between pages loses nobody else", func(t *testing.T) {
		first, err := w.ListUsers(w.ctx, service.Call{}, &iam.ListUsersInput{MaxItems: shape.Ptr(int32(2))})
		if err != nil {
			t.Fatal(err)
		}
		if _, err := w.DeleteUser(w.ctx, service.Call{}, &iam.DeleteUserInput{UserName: shape.Ptr("Bob")}); err != nil {
			t.Fatal(err)
		}
		second, err := w.ListUsers(w.ctx, service.Call{}, &iam.ListUsersInput{Marker: first.Marker})
		if err != nil || names(second.Users) != "carl dora Émile" {
			t.Errorf("%v, %v", names(second.Users), err)
		}
	})
	t.Run("a marker that is none is refused", func(t *testing.T) {
		for _, marker := range []string{"", "!", "a b", "YQ=="} {
			_, err := w.ListUsers(w.ctx, service.Call{}, &iam.ListUsersInput{Marker: &marker})
			var e *awserr.Error
			if !errors.As(err, &e) || e.Kind != awserr.Validation {
				t.Errorf("marker %q: %v", marker, err)
			}
		}
	})
}

func TestTags(t *testing.T) {
	w := open(t)
	w.user("ada")
	ada := shape.Ptr("ada")
	steps := []struct {
		name  string
		add   []string
		minus []string
		want  string
	}{
		{"are added", []string{"team=a", "empty="}, nil, "empty= team=a"},
		{"replace those with the same key", []string{"team=b"}, nil, "empty= team=b"},
		{"replace those with the key in another case", []string{"Team=c"}, nil, "Team=c empty="},
		{"are removed without regard to case", nil, []string{"TEAM", "unknown"}, "empty="},
		{"are all removed", nil, []string{"empty"}, ""},
	}
	for _, c := range steps {
		t.Run(c.name, func(t *testing.T) {
			if c.add != nil {
				if _, err := w.TagUser(w.ctx, service.Call{}, &iam.TagUserInput{UserName: ada, Tags: tags(c.add...)}); err != nil {
					t.Fatal(err)
				}
			}
			if c.minus != nil {
				if _, err := w.UntagUser(w.ctx, service.Call{}, &iam.UntagUserInput{UserName: ada, TagKeys: c.minus}); err != nil {
					t.Fatal(err)
				}
			}
			out, err := w.ListUserTags(w.ctx, service.Call{}, &iam.ListUserTagsInput{UserName: ada})
			if err != nil || show(out.Tags) != c.want || *out.IsTruncated || out.Tags == nil {
				t.Errorf("%q, %v, want %q", show(out.Tags), err, c.want)
			}
		})
	}
	t.Run("are paged even with the longest keys", func(t *testing.T) {
		var want []string
		for i := range 50 {
			want = append(want, fmt.Sprintf("%s%02d=v", strings.Repeat("語", 126), i))
		}
		if _, err := w.TagUser(w.ctx, service.Call{}, &iam.TagUserInput{UserName: ada, Tags: tags(want...)}); err != nil {
			t.Fatal(err)
		}
		var got []string
		in := &iam.ListUserTagsInput{UserName: ada, MaxItems: shape.Ptr(int32(7))}
		for {
			out, err := w.ListUserTags(w.ctx, service.Call{}, in)
			if err != nil {
				t.Fatal(err)
			}
			for _, tag := range out.Tags {
				got = append(got, *tag.Key+"="+*tag.Value)
			}
			if in.Marker = out.Marker; in.Marker == nil {
				break
			}
			if len(*in.Marker) > 320 {
				t.Fatalf("a marker of %d characters", len(*in.Marker))
			}
		}
		if slices.Sort(got); !slices.Equal(got, want) {
			t.Errorf("%d tags", len(got))
		}
	})
	t.Run("have markers that must be readable", func(t *testing.T) {
		_, err := w.ListUserTags(w.ctx, service.Call{}, &iam.ListUserTagsInput{UserName: ada, Marker: shape.Ptr("!")})
		var e *awserr.Error
		if !errors.As(err, &e) || e.Kind != awserr.Validation {
			t.Error(err)
		}
	})
}

func TestAccessKeysLive(t *testing.T) {
	w := open(t)
	ada := w.user("ada")
	out, err := w.CreateAccessKey(w.ctx, w.by(nil), &iam.CreateAccessKeyInput{UserName: shape.Ptr("ada")})
	if err != nil {
		t.Fatal(err)
	}
	key := out.AccessKey
	if _, err := ident.ParseAccessKeyID(*key.AccessKeyId); err != nil || *key.UserName != "ada" || *key.Status != "Active" || len(*key.SecretAccessKey) != 40 || key.CreateDate.IsZero() {
		t.Errorf("%+v, %v", key, err)
	}
	rec, _ := state.Get(w.DB.Snapshot(), state.AccessKeys, *key.AccessKeyId)
	if rec.Secret.Reveal() != *key.SecretAccessKey || rec.UserID != ada.ID || !rec.Active {
		t.Errorf("%+v", rec)
	}
	second := w.key(ada) // for the caller
	list := func(call service.Call, name *string) (all string) {
		t.Helper()
		in := &iam.ListAccessKeysInput{UserName: name, MaxItems: shape.Ptr(int32(1))}
		for {
			out, err := w.ListAccessKeys(w.ctx, call, in)
			if err != nil {
				t.Fatal(err)
			}
			for _, k := range out.AccessKeyMetadata {
				all += *k.AccessKeyId + " " + string(*k.Status) + "\n"
			}
			if in.Marker = out.Marker; in.Marker == nil {
				return all
			}
		}
	}
	want := *key.AccessKeyId + " Active\n" + second + " Active\n"
	if got := list(w.by(nil), shape.Ptr("ada")); got != want {
		t.Errorf("%q, want %q", got, want)
	}
	if got := list(w.by(ada), nil); got != want {
		t.Errorf("the caller's: %q, want %q", got, want)
	}
	for _, status := range []iam.StatusType{iam.StatusTypeInactive, iam.StatusTypeInactive, iam.StatusTypeActive} {
		if _, err := w.UpdateAccessKey(w.ctx, w.by(ada), &iam.UpdateAccessKeyInput{AccessKeyId: &second, Status: &status}); err != nil {
			t.Fatal(err)
		}
		if got := list(w.by(ada), nil); got != *key.AccessKeyId+" Active\n"+second+" "+string(status)+"\n" {
			t.Errorf("%q", got)
		}
	}
	if _, err := w.DeleteAccessKey(w.ctx, w.by(nil), &iam.DeleteAccessKeyInput{UserName: shape.Ptr("ada"), AccessKeyId: &second}); err != nil {
		t.Fatal(err)
	}
	if got := list(w.by(ada), nil); got != *key.AccessKeyId+" Active\n" {
		t.Errorf("%q", got)
	}
}

func TestTheRootHasKeysOfItsOwn(t *testing.T) {
	w := open(t)
	second := w.key(nil)
	_, err := w.CreateAccessKey(w.ctx, w.by(nil), &iam.CreateAccessKeyInput{})
	check(t, err, "LimitExceeded", "Cannot exceed quota for AccessKeysPerUser: 2")
	if _, err := w.DeleteAccessKey(w.ctx, w.by(nil), &iam.DeleteAccessKeyInput{AccessKeyId: &w.rootKey}); err != nil {
		t.Fatal(err)
	}
	t.Run("the last of which stays, because nobody could get back in", func(t *testing.T) {
		_, err := w.DeleteAccessKey(w.ctx, w.by(nil), &iam.DeleteAccessKeyInput{AccessKeyId: &second})
		check(t, err, "DeleteConflict", "last active access key")
		_, err = w.UpdateAccessKey(w.ctx, w.by(nil), &iam.UpdateAccessKeyInput{AccessKeyId: &second, Status: shape.Ptr(iam.StatusTypeInactive)})
		check(t, err, "InvalidInput", "last active access key")
	})
	t.Run("an inactive one can go", func(t *testing.T) {
		third := w.key(nil)
		if _, err := w.UpdateAccessKey(w.ctx, w.by(nil), &iam.UpdateAccessKeyInput{AccessKeyId: &third, Status: shape.Ptr(iam.StatusTypeInactive)}); err != nil {
			t.Fatal(err)
		}
		_, err := w.DeleteAccessKey(w.ctx, w.by(nil), &iam.DeleteAccessKeyInput{AccessKeyId: &second})
		check(t, err, "DeleteConflict", "last active access key")
		if _, err := w.DeleteAccessKey(w.ctx, w.by(nil), &iam.DeleteAccessKeyInput{AccessKeyId: &third}); err != nil {
			t.Error(err)
		}
	})
}

func TestKeyOperationsRefuse(t *testing.T) {
	active := shape.Ptr(iam.StatusTypeActive)
	cases := []struct {
		name       string
		do         func(w *world, ada, grace *state.User, graces string) error
		code, text string
	}{
		{"a third key", func(w *world, ada, _ *state.User, _ string) error {
			w.key(ada)
			second := w.key(ada)
			// An inactive key counts too.
			if _, err := w.UpdateAccessKey(w.ctx, w.by(ada), &iam.UpdateAccessKeyInput{AccessKeyId: &second, Status: shape.Ptr(iam.StatusTypeInactive)}); err != nil {
				return err
			}
			_, err := w.CreateAccessKey(w.ctx, w.by(nil), &iam.CreateAccessKeyInput{UserName: shape.Ptr("ada")})
			return err
		}, "LimitExceeded", "Cannot exceed quota for AccessKeysPerUser: 2"},
		{"a key for nobody", func(w *world, _, _ *state.User, _ string) error {
			_, err := w.CreateAccessKey(w.ctx, w.by(nil), &iam.CreateAccessKeyInput{UserName: shape.Ptr("nobody")})
			return err
		}, "NoSuchEntity", "The user with name nobody cannot be found."},
		{"listing nobody's keys", func(w *world, _, _ *state.User, _ string) error {
			_, err := w.ListAccessKeys(w.ctx, w.by(nil), &iam.ListAccessKeysInput{UserName: shape.Ptr("nobody")})
			return err
		}, "NoSuchEntity", "nobody"},
		{"changing somebody else's key as one's own", func(w *world, ada, _ *state.User, graces string) error {
			_, err := w.UpdateAccessKey(w.ctx, w.by(ada), &iam.UpdateAccessKeyInput{AccessKeyId: &graces, Status: active})
			return err
		}, "NoSuchEntity", "The Access Key with id"},
		{"changing somebody else's key under one's own name", func(w *world, ada, _ *state.User, graces string) error {
			_, err := w.UpdateAccessKey(w.ctx, w.by(ada), &iam.UpdateAccessKeyInput{UserName: shape.Ptr("ada"), AccessKeyId: &graces, Status: active})
			return err
		}, "NoSuchEntity", "cannot be found."},
		{"deleting somebody else's key as one's own", func(w *world, ada, _ *state.User, graces string) error {
			_, err := w.DeleteAccessKey(w.ctx, w.by(ada), &iam.DeleteAccessKeyInput{AccessKeyId: &graces})
			return err
		}, "NoSuchEntity", "The Access Key with id"},
		{"deleting the root's key as a user", func(w *world, ada, _ *state.User, _ string) error {
			_, err := w.DeleteAccessKey(w.ctx, w.by(ada), &iam.DeleteAccessKeyInput{AccessKeyId: &w.rootKey})
			return err
		}, "NoSuchEntity", w0},
		{"deleting a user's key as the root's", func(w *world, _, _ *state.User, graces string) error {
			_, err := w.DeleteAccessKey(w.ctx, w.by(nil), &iam.DeleteAccessKeyInput{AccessKeyId: &graces})
			return err
		}, "NoSuchEntity", "The Access Key with id"},
		{"deleting a key of nobody", func(w *world, _, _ *state.User, graces string) error {
			_, err := w.DeleteAccessKey(w.ctx, w.by(nil), &iam.DeleteAccessKeyInput{UserName: shape.Ptr("nobody"), AccessKeyId: &graces})
			return err
		}, "NoSuchEntity", "nobody"},
		{"changing a key of nobody", func(w *world, _, _ *state.User, graces string) error {
			_, err := w.UpdateAccessKey(w.ctx, w.by(nil), &iam.UpdateAccessKeyInput{UserName: shape.Ptr("nobody"), AccessKeyId: &graces, Status: active})
			return err
		}, "NoSuchEntity", "nobody"},
		{"a status that cannot be set", func(w *world, _, grace *state.User, graces string) error {
			_, err := w.UpdateAccessKey(w.ctx, w.by(grace), &iam.UpdateAccessKeyInput{AccessKeyId: &graces, Status: shape.Ptr(iam.StatusTypeExpired)})
			return err
		}, "InvalidInput", "Active or Inactive"},
		{"the last use of a key that does not exist", func(w *world, _, _ *state.User, _ string) error {
			_, err := w.GetAccessKeyLastUsed(w.ctx, w.by(nil), &iam.GetAccessKeyLastUsedInput{AccessKeyId: shape.Ptr("AKIANOBODY")})
			return err
		}, "NoSuchEntity", "The Access Key with id AKIANOBODY cannot be found."},
		{"a key for a caller who was deleted meanwhile", func(w *world, _, _ *state.User, _ string) error {
			_, err := w.CreateAccessKey(w.ctx, w.by(&state.User{ID: "AIDAGONE", Name: "gone", Path: "/"}), &iam.CreateAccessKeyInput{})
			return err
		}, "NoSuchEntity", "gone"},
	}
	for _, c := range cases {
		t.Run(c.name, func(t *testing.T) {
			w := open(t)
			ada, grace := w.user("ada"), w.user("grace")
			graces := w.key(grace)
			check(t, c.do(w, ada, grace, graces), c.code, c.text)
			for _, id := range []string{graces, w.rootKey} {
				if k, ok := state.Get(w.DB.Snapshot(), state.AccessKeys, id); !ok || !k.Active {
					t.Errorf("key %s was changed: %+v", id, k)
				}
			}
		})
	}
}

const w0 = "The Access Key with id AKIAROOTROOTROOTROOT cannot be found."

// many is how many take part in a race.
const many = 16

// race runs fn many times, all of them deciding on the same state, and gives how many succeeded; each other one must fail with
// one of the codes.
func race(t *testing.T, w *world, fn func(i int) error, codes ...string) int {
	t.Helper()
	w.gate.arm(many)
	var wait sync.WaitGroup
	var mu sync.Mutex
	won := 0
	for i := range many {
		wait.Go(func() {
			err := fn(i)
			mu.Lock()
			defer mu.Unlock()
			var e *awserr.Error
			switch {
			case err == nil:
				won++
			case !errors.As(err, &e) || !slices.Contains(codes, e.Code):
				t.Errorf("%v", err)
			}
		})
	}
	wait.Wait()
	return won
}

func TestRaces(t *testing.T) {
	t.Run("one of many users gets a name, whatever its case", func(t *testing.T) {
		w := open(t)
		won := race(t, w, func(i int) error {
			_, err := w.CreateUser(w.ctx, service.Call{}, &iam.CreateUserInput{UserName: shape.Ptr([]string{"ada", "ADA"}[i%2])})
			return err
		}, "EntityAlreadyExists")
		if won != 1 || state.Count(w.DB.Snapshot(), state.Users) != 1 {
			t.Errorf("%d won", won)
		}
	})
	t.Run("the quota of users holds", func(t *testing.T) {
		w := open(t)
		w.MaxUsers = 3
		if won := race(t, w, func(i int) error {
			_, err := w.CreateUser(w.ctx, service.Call{}, &iam.CreateUserInput{UserName: shape.Ptr(fmt.Sprint("u", i))})
			return err
		}, "LimitExceeded"); won != 3 {
			t.Errorf("%d won", won)
		}
	})
	t.Run("a user never has a third key", func(t *testing.T) {
		w := open(t)
		ada := w.user("ada")
		if won := race(t, w, func(int) error {
			_, err := w.CreateAccessKey(w.ctx, w.by(ada), &iam.CreateAccessKeyInput{})
			return err
		}, "LimitExceeded"); won != 2 {
			t.Errorf("%d won", won)
		}
	})
	t.Run("the root never has a third key", func(t *testing.T) {
		w := open(t)
		if won := race(t, w, func(int) error {
			_, err := w.CreateAccessKey(w.ctx, w.by(nil), &iam.CreateAccessKeyInput{})
			return err
		}, "LimitExceeded"); won != 1 {
			t.Errorf("%d won", won)
		}
	})
	t.Run("the root's last key stays when both are deleted at once", func(t *testing.T) {
		w := open(t)
		ids := []string{w.rootKey, w.key(nil)}
		if won := race(t, w, func(i int) error {
			_, err := w.DeleteAccessKey(w.ctx, w.by(nil), &iam.DeleteAccessKeyInput{AccessKeyId: &ids[i%2]})
			return err
		}, "DeleteConflict", "NoSuchEntity"); won != 1 {
			t.Errorf("%d won", won)
		}
	})
	t.Run("no key outlives its user", func(t *testing.T) {
		for range 20 {
			w := open(t)
			ada := w.user("ada")
			race(t, w, func(i int) error {
				if i%4 == 0 {
					_, err := w.DeleteUser(w.ctx, service.Call{}, &iam.DeleteUserInput{UserName: shape.Ptr("ada")})
					return err
				}
				_, err := w.CreateAccessKey(w.ctx, w.by(ada), &iam.CreateAccessKeyInput{})
				return err
			}, "NoSuchEntity", "LimitExceeded", "DeleteConflict")
			snap := w.DB.Snapshot()
			_, lives := state.Get(snap, state.Users, string(ada.ID))
			if keys := state.CountBy(snap, state.AccessKeys, state.AccessKeysByUser, string(ada.ID)); lives != (keys > 0) {
				t.Fatalf("the user lives: %t, with %d keys", lives, keys)
			}
		}
	})
	t.Run("tags added at once are all there", func(t *testing.T) {
		w := open(t)
		w.user("ada")
		race(t, w, func(i int) error {
			_, err := w.TagUser(w.ctx, service.Call{}, &iam.TagUserInput{UserName: shape.Ptr("ada"), Tags: tags(fmt.Sprintf("k%d=v", i))})
			return err
		})
		if u, _ := findUser(w.DB.Snapshot(), "ada"); len(u.Tags) != many {
			t.Errorf("%d tags", len(u.Tags))
		}
	})
	t.Run("of two users renamed to one name one gets it", func(t *testing.T) {
		w := open(t)
		for i := range many {
			w.user(fmt.Sprint("u", i))
		}
		if won := race(t, w, func(i int) error {
			_, err := w.UpdateUser(w.ctx, service.Call{}, &iam.UpdateUserInput{UserName: shape.Ptr(fmt.Sprint("u", i)), NewUserName: shape.Ptr("ada")})
			return err
		}, "EntityAlreadyExists"); won != 1 {
			t.Errorf("%d won", won)
		}
	})
}

func TestLastUse(t *testing.T) {
	w := open(t)
	key := w.key(w.user("ada"))
	get := func(id string) *iam.GetAccessKeyLastUsedOutput {
		t.Helper()
		out, err := w.GetAccessKeyLastUsed(w.ctx, service.Call{}, &iam.GetAccessKeyLastUsedInput{AccessKeyId: &id})
		if err != nil {
			t.Fatal(err)
		}
		return out
	}
	if out := get(key); *out.UserName != "ada" || *out.AccessKeyLastUsed.ServiceName != "N/A" || *out.AccessKeyLastUsed.Region != "N/A" || out.AccessKeyLastUsed.LastUsedDate != nil {
		t.Errorf("%+v", out)
	}
	at := time.Date(2026, 1, 2, 3, 4, 0, 0, time.UTC)
	w.LastUsed = func(id ident.AccessKeyID) (LastUse, bool) {
		return LastUse{At: at, Service: "workspaces", Region: "us-east-1"}, string(id) == key
	}
	if out := get(key); !out.AccessKeyLastUsed.LastUsedDate.Equal(at) || *out.AccessKeyLastUsed.ServiceName != "workspaces" || *out.AccessKeyLastUsed.Region != "us-east-1" {
		t.Errorf("%+v", out)
	}
	if out := get(w.rootKey); out.UserName != nil || *out.AccessKeyLastUsed.ServiceName != "N/A" {
		t.Errorf("%+v", out)
	}
	t.Run("what was written of it goes with the key, and with the role", func(t *testing.T) {
		role := *w.role("desk").RoleId
		w.put(func(tx *state.Tx) {
			state.Put(tx, state.Uses, &state.Use{ID: key, At: at})
			state.Put(tx, state.Uses, &state.Use{ID: role, At: at})
		})
		answer(w.DeleteAccessKey(w.ctx, service.Call{}, &iam.DeleteAccessKeyInput{UserName: shape.Ptr("ada"), AccessKeyId: &key}))(w)
		answer(w.DeleteRole(w.ctx, service.Call{}, &iam.DeleteRoleInput{RoleName: shape.Ptr("desk")}))(w)
		if n := state.Count(w.DB.Snapshot(), state.Uses); n != 0 {
			t.Errorf("%d are left", n)
		}
	})
}

func TestAccountSummary(t *testing.T) {
	w := open(t)
	w.user("ada")
	w.MaxUsers = 10
	out, err := w.GetAccountSummary(w.ctx, service.Call{}, &iam.GetAccountSummaryInput{})
	if err != nil {
		t.Fatal(err)
	}
	for key, want := range map[string]int32{"Users": 1, "UsersQuota": 10, "AccessKeysPerUserQuota": 2, "AccountAccessKeysPresent": 1, "Roles": 0} {
		if got, ok := out.SummaryMap[key]; !ok || got != want {
			t.Errorf("%s = %d, want %d", key, got, want)
		}
	}
}

// SIG-13: neither records nor errors print a secret.
func TestSecretsAreNotPrinted(t *testing.T) {
	w := open(t)
	out, err := w.CreateAccessKey(w.ctx, w.by(nil), &iam.CreateAccessKeyInput{})
	if err != nil {
		t.Fatal(err)
	}
	rec, _ := state.Get(w.DB.Snapshot(), state.AccessKeys, *out.AccessKey.AccessKeyId)
	if printed := fmt.Sprintf("%v %+v %#v", rec, *rec, *rec); strings.Contains(printed, *out.AccessKey.SecretAccessKey) {
		t.Error("the secret is printed")
	}
}

func TestAStoppedStoreIsUnavailable(t *testing.T) {
	w := open(t)
	ctx, cancel := context.WithCancel(w.ctx)
	cancel()
	_, err := w.CreateUser(ctx, service.Call{}, &iam.CreateUserInput{UserName: shape.Ptr("ada")})
	var e *awserr.Error
	if !errors.As(err, &e) || e.Kind != awserr.Unavailable {
		t.Errorf("%v", err)
	}
}

func TestBindPutsEveryOperation(t *testing.T) {
	table := service.Table{}
	new(Service).Bind(table)
	if len(table) != 129 {
		t.Errorf("%d operations", len(table))
	}
}
