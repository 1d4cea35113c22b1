package samba

import (
	"bytes"
	"context"
	_ "embed"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"

	"carrel/internal/driver"
	"carrel/internal/driver/jail"
	"carrel/internal/durable"
	"carrel/internal/ident"
)

//go:embed provision.py
var provisionScript []byte

// Provision makes the domain and returns once its controller answers: six to eight seconds on a quiet machine. A domain whose making was cut
// off is begun again. Without an AdminPassword the administrator gets one that nobody knows; whoever runs the host can set another.
func (s *Domains) Provision(ctx context.Context, spec driver.DomainSpec) (driver.DomainInfo, error) {
	var out driver.DomainInfo
	err := s.exclusively(spec.DirectoryID, func() error {
		want, err := newRecord(spec)
		if err != nil {
			return err
		}
		d, err := s.get(spec.DirectoryID)
		switch {
		case err == nil && d.rec.Removing:
			return fmt.Errorf("samba: %s is being removed: %w", spec.DirectoryID, driver.ErrOrder)
		case err != nil || !d.made:
			if d, err = s.create(ctx, want, spec); err != nil {
				return fmt.Errorf("samba: make the domain of %s: %w", spec.DirectoryID, err)
			}
		default:
			if err := d.rec.same(want); err != nil {
				return err
			}
		}
		if err := d.ensure(ctx); err != nil {
			return err
		}
		out = driver.DomainInfo{DirectoryID: d.id, Stage: driver.DomainActive, DNSAddresses: texts(d.rec.Addresses)}
		return nil
	})
	return out, err
}

// create makes a domain's files. When it fails they stay, unfinished, until the next Provision or Remove.
func (s *Domains) create(ctx context.Context, rec record, spec driver.DomainSpec) (*domain, error) {
	for _, program := range []string{s.cfg.Samba, s.cfg.Python} {
		if _, err := os.Stat(program); err != nil {
			return nil, driver.Permanent("SambaMissing", fmt.Errorf("%w; install samba-ad-dc, samba-ad-provision, samba-dsdb-modules and python3-samba", err))
		}
	}
	d, err := s.enter(rec)
	if err != nil {
		return nil, err
	}
	// What an earlier attempt has started must not write into what is made now.
	if err := d.endStranger(ctx); err != nil {
		return nil, err
	}
	// The record is there before anything that Remove has to take back.
	if err := d.lay(); err != nil {
		return nil, err
	}
	if err := d.save(); err != nil {
		return nil, err
	}
	if err := d.hold(ctx); err != nil {
		return nil, err
	}
	if err := d.fill(ctx, spec); err != nil {
		return nil, err
	}
	if err := writeFile(filepath.Join(d.dir, madeFile), nil, 0o600, 0); err != nil {
		return nil, err
	}
	s.mu.Lock()
	d.made = true
	s.mu.Unlock()
	select {
	case s.arrived <- struct{}{}:
	default: // Run has not looked yet since the last one
	}
	return d, nil
}

// fill runs the script that makes the databases, without any network.
func (d *domain) fill(ctx context.Context, spec driver.DomainSpec) error {
	seed := filepath.Join(d.dir, confDir, "seed.conf")
	if err := writeFile(seed, d.seed(), 0o644, 0); err != nil {
		return err
	}
	password := spec.AdminPassword.Reveal()
	if spec.AdminPassword.Empty() {
		var err error
		if password, err = unknown(d.all.cfg.Random); err != nil {
			return err
		}
	}
	parameters, err := json.Marshal(map[string]any{
		"seed": seed, "target": filepath.Join(d.dir, stateDir), "realm": d.rec.Name, "domain": d.rec.ShortName, "host": d.rec.Host,
		"addresses": texts(d.rec.Addresses), "password": password, "administrator": administrators[d.rec.Type], "policy": policy,
	})
	if err != nil {
		return err
	}
	defer clear(parameters)
	script, err := pipe(provisionScript)
	if err != nil {
		return err
	}
	defer script.Close()
	in, err := pipe(parameters)
	if err != nil {
		return err
	}
	defer in.Close()
	var said bytes.Buffer
	j := d.jailed(d.all.cfg.Python)
	j.Name = string(d.id) + "-provision"
	// Isolated: no user's site directory, no environment of Python's own.
	j.Args = []string{"-I", "-c", "import os; exec(compile(os.fdopen(3).read(), 'provision', 'exec'))"}
	j.Files = []*os.File{script, in}
	j.Limits = jail.Limits{Memory: 2 << 30, OpenFiles: 1024, Output: 64 << 10}
	j.Allow = jail.Allow{Netlink: true}
	j.Stderr = &said
	if err := jail.Run(ctx, j); err != nil {
		text := strings.ReplaceAll(said.String(), password, "[password]")
		return fmt.Errorf("%w: %s", err, strings.TrimSpace(text[max(0, len(text)-2000):]))
	}
	return nil
}

// unknown is a password that meets every policy and that nobody is told.
func unknown(random io.Reader) (string, error) {
	b := make([]byte, 24)
	if _, err := io.ReadFull(random, b); err != nil {
		return "", fmt.Errorf("draw a password: %w", err)
	}
	return "aA1-" + base64.RawURLEncoding.EncodeToString(b), nil
}

// pipe gives the reading end of a pipe that holds b and then ends. What is in it is nowhere else: no file, no command line.
func pipe(b []byte) (*os.File, error) {
	const room = 64 << 10 // of a pipe (pipe(7)): more would block here
	if len(b) > room {
		return nil, fmt.Errorf("%d bytes do not fit into a pipe", len(b))
	}
	r, w, err := os.Pipe()
	if err != nil {
		return nil, err
	}
	if _, err = w.Write(b); err == nil {
		err = w.Close()
	}
	if err != nil {
		return nil, errors.Join(err, r.Close())
	}
	return r, nil
}

// Remove ends the controller and deletes the domain. What it has begun it finishes when it is called again, also by another process.
func (s *Domains) Remove(ctx context.Context, id ident.DirectoryID) error {
	return s.exclusively(id, func() error {
		d, err := s.get(id)
		if errors.Is(err, driver.ErrNotFound) {
			// Perhaps one that was cut off before it had a record.
			return os.RemoveAll(filepath.Join(s.cfg.Dir, string(id)))
		}
		d.remove()
		d.working.Lock()
		defer d.working.Unlock()
		if err := d.takeDown(ctx); err != nil {
			return fmt.Errorf("samba: remove %s: %w", id, err)
		}
		s.mu.Lock()
		delete(s.domains, id)
		s.mu.Unlock()
		return nil
	})
}

// takeDown goes in the order in which a crash leaves something that can be taken down again.
func (d *domain) takeDown(ctx context.Context) error {
	if !d.rec.Removing {
		d.all.mu.Lock()
		d.rec.Removing = true
		d.all.mu.Unlock()
		if _, err := os.Stat(d.dir); err == nil {
			if err := d.save(); err != nil {
				return err
			}
		}
	}
	if c := d.running.Load(); c != nil {
		c.end()
		d.running.Store(nil)
	}
	if c, err := d.find(ctx); err != nil {
		return err
	} else if c != nil {
		c.end()
	}
	for _, a := range d.rec.Addresses {
		if err := d.all.cfg.Networks.Drop(ctx, d.rec.VPC, a); err != nil {
			return fmt.Errorf("address %s: %w", a, err)
		}
	}
	// Renamed first: a half-deleted directory must not be taken for a domain.
	grave := filepath.Join(d.all.cfg.Dir, removed+string(d.id))
	if err := os.RemoveAll(grave); err != nil {
		return err
	}
	if err := os.Rename(d.dir, grave); err != nil && !errors.Is(err, os.ErrNotExist) {
		return err
	}
	if err := durable.SyncDir(d.all.cfg.Dir); err != nil {
		return err
	}
	return os.RemoveAll(grave)
}
