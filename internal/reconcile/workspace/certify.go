package workspace

import (
	"context"
	"fmt"
	"io"
	"iter"
	"sync"

	"carrel/internal/driver"
	"carrel/internal/evidence"
	"carrel/internal/ident"
	"carrel/internal/state"
)

// Evidence is what the plans need of an *evidence.Log.
type Evidence interface {
	AppendScrub(c *evidence.ScrubCertificate) (evidence.Record, error)
	Records(kind evidence.Kind, subject string) iter.Seq2[evidence.Record, error]
}

// sign puts the scrub's certificate into the evidence and its id into the record. Only then may anything be released.
func (p *planner) sign() step {
	return step{
		Name:   "certify",
		Needed: uncertified,
		Do: func(ctx context.Context, rec *record) (effect, error) {
			id, err := p.certified(ctx, rec.ID, !rec.Status.Booted.IsZero())
			if err != nil || id == "" {
				return nil, err
			}
			return func(_ *state.Tx, rec *record) error {
				rec.Status.Certificate = id
				return nil
			}, nil
		},
	}
}

// certified signs what the drivers report of a scrubbed desktop, once: both drivers keep their reports until they are told to
// release them. The id is empty when there never was memory.
func (p *planner) certified(ctx context.Context, id ident.WorkspaceID, booted bool) (ident.CertificateID, error) {
	report, some, err := p.scrubbed(ctx, id, booted)
	if err != nil || !some {
		return "", err
	}
	erasures, err := p.erased(ctx, id)
	if err != nil {
		return "", err
	}
	return p.certify.once(ctx, report, erasures)
}

// certifier signs one certificate a desktop, whatever crashes in between.
type certifier struct {
	log    Evidence
	random io.Reader
	// live lists the desktops that an earlier process may have certified without recording it.
	live func(context.Context) (map[ident.WorkspaceID]bool, error)

	mu sync.Mutex
	// signed holds the certificates of desktops that are not released yet; nil until the log has been read.
	signed map[ident.WorkspaceID]ident.CertificateID
}

// once signs the certificate, or finds the one that is signed already: by this process, or by an earlier one that was
// killed before it recorded the id.
func (c *certifier) once(ctx context.Context, r driver.ScrubReport, erasures []driver.Erasure) (ident.CertificateID, error) {
	c.mu.Lock()
	err := c.load(ctx)
	id, done := c.signed[r.WorkspaceID]
	c.mu.Unlock()
	if err != nil || done {
		return id, err
	}
	// No lock here: appends of several desktops share one write to disk, and one desktop has one worker.
	cert := certificate(ident.NewCertificateID(c.random), r, erasures)
	if _, err := c.log.AppendScrub(cert); err != nil {
		return "", fmt.Errorf("sign the scrub certificate of %s: %w", r.WorkspaceID, err)
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	c.signed[r.WorkspaceID] = ident.CertificateID(cert.CertificateID)
	return ident.CertificateID(cert.CertificateID), nil
}

// forget drops what is only needed until a desktop is released.
func (c *certifier) forget(id ident.WorkspaceID) {
	c.mu.Lock()
	defer c.mu.Unlock()
	delete(c.signed, id)
}

// load reads the log once. The caller holds mu.
func (c *certifier) load(ctx context.Context) error {
	if c.signed != nil {
		return nil
	}
	live, err := c.live(ctx)
	if err != nil {
		return err
	}
	signed := map[ident.WorkspaceID]ident.CertificateID{}
	for rec, err := range c.log.Records(evidence.KindScrub, "") {
		if err != nil {
			return err
		}
		if !live[ident.WorkspaceID(rec.Subject)] {
			continue
		}
		cert, err := evidence.Scrub(rec)
		if err != nil {
			return err
		}
		signed[ident.WorkspaceID(rec.Subject)] = ident.CertificateID(cert.CertificateID)
	}
	c.signed = signed
	return nil
}

// live is every desktop that has a record or a machine.
func (p *planner) live(ctx context.Context) (map[ident.WorkspaceID]bool, error) {
	machines, err := p.drivers.Hypervisor.List(ctx)
	if err != nil {
		return nil, fmt.Errorf("list machines: %w", err)
	}
	out := map[ident.WorkspaceID]bool{}
	for _, m := range machines {
		out[m.WorkspaceID] = true
	}
	for rec := range state.All(p.db.Snapshot(), state.Workspaces) {
		out[rec.ID] = true
	}
	return out, nil
}

// certificate is the report in the words of the evidence.
func certificate(id ident.CertificateID, r driver.ScrubReport, erasures []driver.Erasure) *evidence.ScrubCertificate {
	f := r.Facts
	c := &evidence.ScrubCertificate{
		CertificateID: string(id), WorkspaceID: string(r.WorkspaceID), Simulated: r.Simulated,
		Host: r.Host, Machine: r.Run, MachineStart: r.RunStarted, MachineEnd: r.RunEnded, ScrubStart: r.Started, ScrubEnd: r.Finished,
		Method: r.Method, BytesZeroed: r.MemoryBytes, BytesVerified: r.ReadBytes, ProcessBytesZeroed: r.ProcessBytes, ProcessEnded: r.ProcessEnded, ProcessBytesSkipped: r.ProcessSkipped, ReadBackDigest: r.Digest,
		HostFacts: evidence.HostFacts{Kernel: f.Kernel, InitOnFree: f.InitOnFree, InitOnAlloc: f.InitOnAlloc, SwapActive: f.SwapActive,
			MemoryUnswappable: f.Unswappable, KSMActive: f.KSMActive, CoreDumpsOff: f.CoreDumpsOff, Sealed: r.Sealed},
	}
	for _, e := range erasures {
		c.VolumeKeysDestroyed = append(c.VolumeKeysDestroyed, evidence.VolumeKey{Volume: string(e.VolumeID), KeyID: e.KeyID, DestroyedAt: e.At})
	}
	for _, k := range r.Keys {
		c.VolumeKeysDestroyed = append(c.VolumeKeysDestroyed, evidence.VolumeKey{Volume: "saved-memory", KeyID: k, DestroyedAt: r.Finished})
	}
	return c
}
