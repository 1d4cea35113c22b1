// Package ds carries out the operations of AWS Directory Service on Carrel's directories (Directory Service API reference,
// 2015-04-16).
//
// It refuses to see HTTP and signatures (front, identity) and to make directories: it writes and reads records; only a user's password
// goes to the directory itself.
package ds

import (
	"cmp"
	"context"
	"encoding/base64"
	"io"
	"slices"

	"carrel/internal/api/ds"
	"carrel/internal/api/shape"
	"carrel/internal/awserr"
	"carrel/internal/directory"
	"carrel/internal/ident"
	"carrel/internal/seal"
	"carrel/internal/service"
	"carrel/internal/state"
)

// maxPage is the largest page, and the size when the caller names none or 0 (AWS names no figure).
const maxPage = 100

// Service carries out the operations. Its methods may be called concurrently.
type Service struct {
	DB *state.DB
	// Users are the directories' users.
	Users directory.Manager
	// Seal keeps the first passwords of directories that are being made.
	Seal *seal.Key
	// Rand gives ids.
	Rand io.Reader
	// MaxDirectories is how many directories of a type there is room for; 0: any number.
	MaxDirectories int
}

// Bind puts the service's handlers into t.
func (s *Service) Bind(t service.Table) {
	service.Bind(t, ds.DescribeDirectories, s.DescribeDirectories)
	service.Bind(t, ds.CreateDirectory, s.CreateDirectory)
	service.Bind(t, ds.CreateMicrosoftAD, s.CreateMicrosoftAD)
	service.Bind(t, ds.DeleteDirectory, s.DeleteDirectory)
	service.Bind(t, ds.ResetUserPassword, s.ResetUserPassword)
}

// DescribeDirectories describes the account's directories, or those named; one of them that does not exist makes the whole call
// fail, by which clients see that a directory is gone.
func (s *Service) DescribeDirectories(_ context.Context, _ service.Call, in *ds.DescribeDirectoriesInput) (*ds.DescribeDirectoriesOutput, error) {
	limit := int(shape.Val(in.Limit))
	if limit < 0 {
		return nil, awserr.Model("InvalidParameterException", "Limit must not be negative.")
	}
	limit = min(cmp.Or(limit, maxPage), maxPage)
	after, err := readToken(in.NextToken)
	if err != nil {
		return nil, err
	}
	snap := s.DB.Snapshot()
	recs, next := []*state.Directory(nil), ""
	if len(in.DirectoryIds) == 0 {
		recs, next = state.Page(snap, state.Directories, after, limit)
	} else if recs, next, err = named(snap, in.DirectoryIds, after, limit); err != nil {
		return nil, err
	}
	out := &ds.DescribeDirectoriesOutput{DirectoryDescriptions: make([]ds.DirectoryDescription, 0, len(recs))}
	for _, rec := range recs {
		out.DirectoryDescriptions = append(out.DirectoryDescriptions, describe(snap, rec))
	}
	if next != "" {
		out.NextToken = shape.Ptr(base64.RawURLEncoding.EncodeToString([]byte(next)))
	}
	return out, nil
}

// named gives a page of the directories with these ids, each once, in the order of the ids.
func named(r state.Reader, ids []string, after string, limit int) (recs []*state.Directory, next string, err error) {
	for _, id := range slices.Compact(slices.Sorted(slices.Values(ids))) {
		rec, ok := state.Get(r, state.Directories, id)
		switch {
		case !ok:
			return nil, "", noDirectory(id)
		case id <= after:
		case len(recs) < limit:
			recs = append(recs, rec)
		case next == "":
			next = string(recs[limit-1].ID)
		}
	}
	return recs, next, nil
}

// readToken gives the id after which the page begins. The client controls the token: it can only move its own position.
func readToken(token *string) (string, error) {
	if token == nil {
		return "", nil
	}
	id, err := base64.RawURLEncoding.Strict().DecodeString(*token)
	if err == nil {
		_, err = ident.ParseDirectoryID(string(id))
	}
	if err != nil {
		return "", awserr.Model("InvalidNextTokenException", "The NextToken value is not valid.")
	}
	return string(id), nil
}
