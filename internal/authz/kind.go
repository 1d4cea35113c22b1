package authz

import (
	"strings"

	"carrel/internal/api/shape"
	"carrel/internal/arn"
	"carrel/internal/identity"
	"carrel/internal/policy"
	"carrel/internal/state"
)

// kind is a resource type as policies name it.
type kind struct {
	// service and prefix begin its ARNs: "workspaces" and "workspace/".
	service, prefix string
	// global tells of ARNs without a region.
	global bool
	// tags finds a resource's tags by its id, nil when it has none or does not exist. A nil tags is a type without tags.
	tags func(e *env, id string) map[string]string
	// named, where set, makes the target of something that is not simply named by its id.
	named func(e *env, id string) target
	// missing, where set, is the target of a request that names nothing, instead of any of the type.
	missing func(e *env) target
	// tagKey begins a second name of its tags' condition keys ("ec2:ResourceTag/").
	tagKey string
}

// target is a resource that an action is checked on.
type target struct {
	arn string
	// account owns it; empty when there is no such key.
	account string
	tags    map[string]string
	// also begins a second name of the keys of tags.
	also string
	// keys are condition keys that are the resource's own.
	keys []keyed
	// trust is the trust policy of a role that is to be assumed, and role whose it is.
	trust *policy.Policy
	role  *state.Role
}

// keyed is a condition key with its value.
type keyed struct {
	key   policy.Key
	value string
}

// env is what targets are found in.
type env struct {
	*Authorizer
	snapshot  *state.Snapshot
	principal identity.Principal
	op        *shape.Operation
	in        input
}

// target finds the resource of an id.
func (k *kind) target(e *env, id string) target {
	if k.named != nil {
		return k.named(e, id)
	}
	t := target{arn: k.arn(e, id), account: e.Account, also: k.tagKey}
	if k.tags != nil {
		t.tags = k.tags(e, id)
	}
	return t
}

// nobody is the resource of a request that names none: any of the type. A policy for one of them does not match it (reference 5.6, notes).
func (k *kind) nobody(e *env) target {
	if k.missing != nil {
		return k.missing(e)
	}
	return target{arn: k.arn(e, "*"), account: e.Account}
}

func (k *kind) arn(e *env, id string) string {
	a := arn.ARN{Partition: e.Partition, Service: k.service, Region: e.Region, Account: e.Account, Resource: k.prefix + id}
	if k.global {
		a.Region = ""
	}
	return a.String()
}

// at names the resource at a path of the input.
func (k *kind) at(path string) on { return on{kind: k, path: path} }

// given is the resource at a path of the input if there is one there.
func (k *kind) given(path string) on { return on{kind: k, path: path, optional: true} }

// any is any resource of the type.
func (k *kind) any() on { return on{kind: k} }

// below says where the request has the IAM path of something that is to be made, or that lists are cut down to. The kind's prefix then ends
// before the path ("user").
func (o on) below(under string) on {
	o.under = under
	return o
}

// tagsOf gives the tags of a record.
func tagsOf[T any](d *state.Definition[T]) func(*env, string) map[string]string {
	return func(e *env, id string) map[string]string {
		if rec, ok := state.Get(e.snapshot, d, id); ok {
			return d.Meta(rec).Tags
		}
		return nil
	}
}

// afterSlash is what a name has behind its last slash.
func afterSlash(s string) string { return s[strings.LastIndexByte(s, '/')+1:] }
