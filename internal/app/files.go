package app

import (
	"errors"
	"fmt"
	"io/fs"
	"net"
	"os"
	"path/filepath"
	"strings"

	"carrel/internal/durable"
	"carrel/internal/evidence"
)

// Files of a state directory that subcommands read without a running process, relative to it.
const (
	EvidenceLog       = "evidence/log.jsonl"
	EvidencePublicKey = "evidence/public.pem"
	evidenceKey       = "evidence/key.pem"
	sealKey           = "seal.key"
)

// openEvidence opens the evidence log with its key, and makes both at the first start. A log without its key is not continued with a
// new one: its records would look as if two had written them.
func openEvidence(dir string, clock evidence.Clock) (*evidence.Log, error) {
	if err := os.MkdirAll(filepath.Join(dir, "evidence"), 0o700); err != nil {
		return nil, fmt.Errorf("evidence: %w", err)
	}
	keyFile, logFile := filepath.Join(dir, evidenceKey), filepath.Join(dir, EvidenceLog)
	key, err := evidence.LoadKey(keyFile)
	if errors.Is(err, fs.ErrNotExist) {
		if info, err := os.Stat(logFile); err == nil && info.Size() > 0 {
			return nil, fmt.Errorf("%s is missing, but %s has records: restore the key from a backup; nothing was changed", keyFile, logFile)
		}
		if key, err = evidence.GenerateKey(random); err != nil {
			return nil, err
		}
		if err := evidence.CreateKey(keyFile, key); err != nil {
			return nil, err
		}
	} else if err != nil {
		return nil, fmt.Errorf("%s: %w; restore it from a backup; nothing was changed", keyFile, err)
	}
	log, err := evidence.Open(logFile, key, clock)
	if err != nil {
		return nil, fmt.Errorf("%w; restore log and key from one backup; nothing was changed", err)
	}
	// Only a key that fits its log is published.
	if err := publish(dir, key); err != nil {
		return nil, errors.Join(err, log.Close())
	}
	return log, nil
}

// publish writes the public half of the evidence key for verifiers.
func publish(dir string, key evidence.PrivateKey) error {
	public, err := evidence.PublicPEM(key.Public())
	if err != nil {
		return err
	}
	return durable.WriteFile(filepath.Join(dir, EvidencePublicKey), public, 0o644)
}

// writeClientFiles writes what AWS clients need. They are written at every start: the doors' ports may be others.
func (h *house) writeClientFiles(l *listeners) error {
	dir := h.conf.State.Dir
	if err := os.MkdirAll(filepath.Join(dir, "aws"), 0o700); err != nil {
		return fmt.Errorf("client files: %w", err)
	}
	absolute, err := filepath.Abs(dir)
	if err != nil {
		return fmt.Errorf("client files: %w", err)
	}
	conf := fmt.Sprintf("[profile carrel]\nregion = %s\noutput = json\nendpoint_url = %s\nca_bundle = %s\n", h.installation.Region, l.apiURL(), filepath.Join(absolute, "ca.pem"))
	keys := fmt.Sprintf("[carrel]\naws_access_key_id = %s\naws_secret_access_key = %s\n", h.rootKey.ID, h.rootKey.Secret.Reveal())
	for _, f := range []struct {
		name, text string
		mode       fs.FileMode
	}{
		{"ca.pem", string(h.authority.CertificatePEM()), 0o644},
		{"aws/config", conf, 0o600},
		{"aws/credentials", keys, 0o600},
	} {
		if err := durable.WriteFile(filepath.Join(dir, f.name), []byte(f.text), f.mode); err != nil {
			return err
		}
	}
	return nil
}

// hostPort is how clients on this machine reach a listener: an unspecified address is every address, so loopback will do; a name given
// for the API comes first, because then clients may be elsewhere.
func (l *listeners) hostPort(door net.Listener) string {
	host, port, err := net.SplitHostPort(door.Addr().String())
	if err != nil {
		return door.Addr().String()
	}
	if ip := net.ParseIP(host); ip != nil && ip.IsUnspecified() {
		host = "localhost"
		for _, n := range l.conf.API.Names {
			if !strings.Contains(n, "*") {
				host = n
				break
			}
		}
	}
	return net.JoinHostPort(host, port)
}

func (l *listeners) apiURL() string    { return "https://" + l.hostPort(l.api) }
func (l *listeners) portalURL() string { return "https://" + l.hostPort(l.portal) }

// crlURL is where clients find the revocation list: plain HTTP, because they would need the list to check the connection that brings it.
func (l *listeners) crlURL() string { return "http://" + l.hostPort(l.portal) + "/pki/ca.crl" }
