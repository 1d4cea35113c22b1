package workspaces

import (
	"context"
	"fmt"
	"strings"
	"sync/atomic"
	"testing"

	api "carrel/internal/api/workspaces"
	"carrel/internal/service"
	"carrel/internal/state"
)

func (w *world) tag(id string, tags ...api.Tag) error {
	_, err := w.CreateTags(context.Background(), service.Call{}, &api.CreateTagsInput{ResourceId: &id, Tags: tags})
	return err
}

func (w *world) untag(id string, keys ...string) error {
	_, err := w.DeleteTags(context.Background(), service.Call{}, &api.DeleteTagsInput{ResourceId: &id, TagKeys: keys})
	return err
}

func (w *world) tagsOf(id string) (string, error) {
	out, err := w.DescribeTags(context.Background(), service.Call{}, &api.DescribeTagsInput{ResourceId: &id})
	if err != nil {
		return "", err
	}
	texts := []string{}
	for _, t := range out.TagList {
		texts = append(texts, *t.Key+"="+*t.Value)
	}
	return strings.Join(texts, " "), nil
}

// tagged opens a service with one resource of every kind and gives their ids.
func tagged(t *testing.T) (*world, []string) {
	w := furnish(t)
	put(w, state.Images, &state.Image{ID: "wsi-0a1b2c3d4", Owner: account, Name: "own", State: "AVAILABLE", Platform: "LINUX", RequiredTenancy: "DEFAULT"},
		&state.Image{ID: "wsi-0a1b2c3d5", Owner: "AMAZON", Name: "public", State: "AVAILABLE"})
	return w, []string{string(w.workspace("ws-000000001", "AVAILABLE", alwaysOn)), string(corp), "wsi-0a1b2c3d4", string(mine), w.group("g")}
}

func TestTagsOfEveryKindOfResource(t *testing.T) {
	w, ids := tagged(t)
	for _, id := range ids {
		t.Run(id, func(t *testing.T) {
			refused(t, w.tag(id, tag("b", "1"), tag("a", "ü"), api.Tag{Key: tag("empty", "").Key}), "")
			refused(t, w.tag(id, tag("b", "2")), "")
			if got, err := w.tagsOf(id); got != "a=ü b=2 empty=" || err != nil {
				t.Errorf("tags %q, %v", got, err)
			}
			refused(t, w.untag(id, "a", "absent"), "")
			if got, _ := w.tagsOf(id); got != "b=2 empty=" {
				t.Errorf("tags %q", got)
			}
		})
	}
}

func TestResourcesWithoutTags(t *testing.T) {
	w, _ := tagged(t)
	for name, id := range map[string]string{
		"an unknown WorkSpace":               "ws-999999999",
		"an unknown directory":               "d-0123456789",
		"a directory that is not registered": string(other),
		"a pool directory":                   "wsd-012345678",
		"an unknown image":                   "wsi-999999999",
		"a public image":                     "wsi-0a1b2c3d5",
		"a public bundle":                    string(standard),
		"another account's bundle":           string(foreign),
		"an unknown group":                   "wsipg-999999999",
		"a connection alias":                 "wsca-999999999",
		"another service's resource":         "vpc-0a1b2c3d4e5f60718",
		"no id":                              "x",
	} {
		t.Run(name+" is not found", func(t *testing.T) {
			refused(t, w.tag(id, tag("a", "b")), "ResourceNotFoundException")
			refused(t, w.untag(id, "a"), "ResourceNotFoundException")
			_, err := w.tagsOf(id)
			refused(t, err, "ResourceNotFoundException")
		})
	}
}

func TestTagsThatCannotBe(t *testing.T) {
	w, ids := tagged(t)
	id := ids[0]
	refused(t, w.tag(id, tag(strings.Repeat("ü", 127), strings.Repeat("ü", 255))), "")
	for name, list := range map[string][]api.Tag{
		"a key of 128 characters":     {tag(strings.Repeat("k", 128), "")},
		"an empty key":                {tag("", "v")},
		"a value of 256 characters":   {tag("k", strings.Repeat("v", 256))},
		"a reserved key":              {tag("aws:cloudformation:stack-name", "v")},
		"a reserved key in capitals":  {tag("AWS:x", "v")},
		"a key twice":                 {tag("k", "1"), tag("k", "2")},
		"one bad tag beside good one": {tag("good", "1"), tag("", "2")},
	} {
		t.Run(name+" is refused", func(t *testing.T) {
			refused(t, w.tag(id, list...), "InvalidParameterValuesException")
		})
	}
	t.Run("deleting a reserved key is refused", func(t *testing.T) {
		refused(t, w.untag(id, "aws:x"), "InvalidParameterValuesException")
	})
	if got, _ := w.tagsOf(id); strings.Count(got, "=") != 1 {
		t.Errorf("a refused call left tags: %q", got)
	}
}

func TestOf53TagsAResourceHas50(t *testing.T) {
	w, ids := tagged(t)
	id := ids[0]
	list := make([]api.Tag, 48)
	for i := range list {
		list[i] = tag(fmt.Sprint("k", i), "")
	}
	refused(t, w.tag(id, list...), "")
	var done, over atomic.Int32
	fns := make([]func(context.Context), 5)
	for i := range fns {
		fns[i] = func(context.Context) {
			switch err := w.tag(id, tag(fmt.Sprint("new", i), "")); codeOf(err) {
			case "":
				done.Add(1)
			case "ResourceLimitExceededException":
				over.Add(1)
			default:
				t.Error(err)
			}
		}
	}
	both(t, fns...)
	if done.Load() != 2 || over.Load() != 3 {
		t.Errorf("%d tagged, %d refused", done.Load(), over.Load())
	}
	refused(t, w.tag(id, tag("k0", "changed")), "")
}
