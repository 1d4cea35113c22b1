// Package cloudtrail carries out the operations of AWS CloudTrail that read (CloudTrail API reference, 2013-11-01): the event history, which here is the
// audit log itself, and what can be asked of trails, of which there are none: nothing is delivered to a bucket.
//
// It refuses to change or to hide a record, and to see how the log is kept (audit).
package cloudtrail

import (
	"context"
	"crypto/aes"
	"crypto/cipher"
	"io"

	"carrel/internal/api/cloudtrail"
	"carrel/internal/audit"
	"carrel/internal/clock"
	"carrel/internal/service"
)

// Records are the records of the audit log.
type Records interface {
	// Lookup gives a page of the records that a query asks for, the newest first, all that are written before the call included.
	Lookup(ctx context.Context, q audit.Query) (audit.Page, error)
}

// Deps are what a Service needs. All fields must be set.
type Deps struct {
	Records Records
	// Clock is the one that records are stamped by.
	Clock clock.Clock
	// Rand must be safe for concurrent use.
	Rand io.Reader
	// TokenKey seals page tokens; the same on every node.
	TokenKey [32]byte
	// AccountID is the account of 12 digits; Region and Partition make the ARNs of messages.
	AccountID, Region, Partition string
}

// Service carries out the operations. Its methods may be called concurrently.
type Service struct {
	Deps
	aead cipher.AEAD
}

// New makes a Service.
func New(d Deps) *Service {
	block, err := aes.NewCipher(d.TokenKey[:])
	if err != nil {
		panic("cloudtrail: " + err.Error()) // only for a key of another length
	}
	aead, err := cipher.NewGCM(block)
	if err != nil {
		panic("cloudtrail: " + err.Error()) // only for a block of another size
	}
	return &Service{Deps: d, aead: aead}
}

// Bind puts the service's handlers into t.
func (s *Service) Bind(t service.Table) {
	service.Bind(t, cloudtrail.LookupEvents, s.LookupEvents)
	service.Bind(t, cloudtrail.DescribeTrails, s.DescribeTrails)
	service.Bind(t, cloudtrail.ListTrails, s.ListTrails)
	service.Bind(t, cloudtrail.GetTrail, s.GetTrail)
	service.Bind(t, cloudtrail.GetTrailStatus, s.GetTrailStatus)
	service.Bind(t, cloudtrail.GetEventSelectors, s.GetEventSelectors)
	service.Bind(t, cloudtrail.ListPublicKeys, s.ListPublicKeys)
	service.Bind(t, cloudtrail.ListTags, s.ListTags)
}
