package main

import (
	"crypto/ed25519"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"
	"text/tabwriter"
	"time"

	"github.com/spf13/cobra"

	"carrel/internal/app"
	"carrel/internal/evidence"
)

func newScrub(g *global) *cobra.Command {
	var key string
	c := &cobra.Command{
		Use:   "scrub",
		Short: "List, show and verify scrub certificates: the evidence that a desktop's memory and disk keys are gone",
		Long:  "Works offline on the evidence log in the state directory, or on a proof file made by `carrel scrub show --json`, with the public key alone.",
		Example: `  carrel scrub list
  carrel scrub show sc-0123456789abcdef0 --json > proof.json
  carrel scrub verify proof.json --key public.pem`,
	}
	c.PersistentFlags().StringVar(&key, "key", "", "public key, PEM (default: evidence/public.pem in the state directory)")
	c.AddCommand(newScrubList(g, &key), newScrubShow(g, &key), newScrubVerify(g, &key))
	return c
}

// evidenceKey reads the verifier's public key.
func evidenceKey(g *global, key string) (ed25519.PublicKey, error) {
	if key == "" {
		key = filepath.Join(g.state, app.EvidencePublicKey)
	}
	text, err := os.ReadFile(key)
	if own := filepath.Join(g.state, app.EvidencePublicKey); key == own {
		err = noInstallation(g.state, err)
	}
	if err != nil {
		return nil, fmt.Errorf("read the evidence key: %w", err)
	}
	return evidence.ParsePublicKey(text)
}

// walkScrubs verifies the state directory's evidence log from its first record on and shows each good scrub certificate to each.
func walkScrubs(g *global, key string, each func(evidence.Record, *evidence.ScrubCertificate)) error {
	pub, err := evidenceKey(g, key)
	if err != nil {
		return err
	}
	f, err := os.Open(filepath.Join(g.state, app.EvidenceLog))
	if err != nil {
		return fmt.Errorf("open the evidence log: %w", err)
	}
	defer f.Close()
	_, err = evidence.Verify(f, pub, evidence.Options{Live: true, Each: func(r evidence.Record) error {
		if r.Kind != evidence.KindScrub {
			return nil
		}
		c, err := evidence.Scrub(r)
		if err == nil {
			each(r, c)
		}
		return err
	}})
	return err
}

func newScrubList(g *global, key *string) *cobra.Command {
	return &cobra.Command{
		Use:     "list",
		Short:   "List all scrub certificates, verifying the whole log on the way",
		Example: "  carrel scrub list --json",
		Args:    cobra.NoArgs,
		RunE: func(c *cobra.Command, _ []string) error {
			all := []*evidence.ScrubCertificate{}
			err := walkScrubs(g, *key, func(_ evidence.Record, c *evidence.ScrubCertificate) { all = append(all, c) })
			if err != nil && len(all) == 0 {
				return err // "none yet" would be wrong
			}
			if printed := g.print(c.OutOrStdout(), all, func(w io.Writer) { printCertificates(w, all) }); err == nil {
				err = printed
			}
			return err
		},
	}
}

func printCertificates(w io.Writer, all []*evidence.ScrubCertificate) {
	if len(all) == 0 {
		fmt.Fprintln(w, "no scrub certificates yet")
		return
	}
	t := tabwriter.NewWriter(w, 0, 0, 2, ' ', 0)
	fmt.Fprintln(t, "CERTIFICATE\tWORKSPACE\tSCRUBBED\tZEROED\tVERIFIED\tKEYS DESTROYED\t")
	for _, c := range all {
		note := ""
		if c.Simulated {
			note = "SIMULATED"
		}
		fmt.Fprintf(t, "%s\t%s\t%s\t%d\t%d\t%d\t%s\n", c.CertificateID, c.WorkspaceID, c.ScrubEnd.UTC().Format(time.RFC3339), c.BytesZeroed, c.BytesVerified, len(c.VolumeKeysDestroyed), note)
	}
	t.Flush()
}

// findCertificate gives the record of a certificate.
func findCertificate(g *global, key, id string) (evidence.Record, *evidence.ScrubCertificate, error) {
	var found evidence.Record
	var cert *evidence.ScrubCertificate
	err := walkScrubs(g, key, func(r evidence.Record, c *evidence.ScrubCertificate) {
		if c.CertificateID == id {
			found, cert = r, c
		}
	})
	if err == nil && cert == nil {
		err = fmt.Errorf("no certificate %s in %s: see carrel scrub list", id, filepath.Join(g.state, app.EvidenceLog))
	}
	return found, cert, err
}

func newScrubShow(g *global, key *string) *cobra.Command {
	return &cobra.Command{
		Use:     "show CERTIFICATE",
		Short:   "Show one certificate; with --json as a proof file that verifies on its own",
		Example: "  carrel scrub show sc-0123456789abcdef0 --json > proof.json",
		Args:    cobra.ExactArgs(1),
		RunE: func(c *cobra.Command, args []string) error {
			rec, cert, err := findCertificate(g, *key, args[0])
			if err != nil {
				return err
			}
			return g.print(c.OutOrStdout(), evidence.NewProof(rec), func(w io.Writer) { fmt.Fprintln(w, cert) })
		},
	}
}

func newScrubVerify(g *global, key *string) *cobra.Command {
	return &cobra.Command{
		Use:   "verify CERTIFICATE|PROOF-FILE",
		Short: "Verify one certificate with the public key: its signature, its digest and, in the state directory, its place in the chain",
		Example: `  carrel scrub verify sc-0123456789abcdef0
  carrel scrub verify proof.json --key public.pem`,
		Args: cobra.ExactArgs(1),
		RunE: func(c *cobra.Command, args []string) error {
			cert, where, err := verifyScrub(g, *key, args[0])
			if err != nil {
				return err
			}
			compared, err := cert.CheckDigest()
			if err != nil {
				return err
			}
			verdict := map[string]any{"certificateId": cert.CertificateID, "valid": true, "simulated": cert.Simulated, "checked": where, "digestCompared": compared}
			return g.print(c.OutOrStdout(), verdict, func(w io.Writer) {
				fmt.Fprintf(w, "%s is valid: %s\n", cert.CertificateID, where)
				if compared {
					fmt.Fprintf(w, "the digest of what was read back is that of %d zeros\n", cert.BytesVerified)
				} else {
					fmt.Fprintf(w, "the digest of what was read back is made in a way this version does not know (%s): not compared\n", cert.Method)
				}
				if cert.Simulated {
					fmt.Fprintln(w, "SIMULATED: there was no desktop and no memory; this proves nothing about a machine")
				}
			})
		},
	}
}

func verifyScrub(g *global, key, what string) (*evidence.ScrubCertificate, string, error) {
	if strings.HasPrefix(what, "sc-") {
		_, cert, err := findCertificate(g, key, what)
		return cert, "signature, and every record of the log up to its end", err
	}
	pub, err := evidenceKey(g, key)
	if err != nil {
		return nil, "", err
	}
	data, err := os.ReadFile(what)
	if err != nil {
		return nil, "", err
	}
	proof, err := evidence.ParseProof(data)
	if err != nil {
		return nil, "", err
	}
	if err := proof.Verify(pub); err != nil {
		return nil, "", err
	}
	if proof.Record.Kind != evidence.KindScrub {
		return nil, "", errors.New("the proof is not that of a scrub certificate")
	}
	cert, err := evidence.Scrub(proof.Record)
	return cert, "signature of the record alone", err
}
