package main

import (
	"context"
	"encoding/json"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"

	"carrel/internal/sigv4"
)

// simulatedDirectory is the one a simulated installation begins with.
const simulatedDirectory = "d-90670ca44e"

// configuration changes nothing that a request passes through: a quota with room, free ports, and profiles when they are asked for.
const configuration = `metrics:
  address: "127.0.0.1:0"
  pprof: true
limits:
  workspaces: 200000
`

// baseBackup is the backup of a fresh installation.
func (b *bench) baseBackup(ctx context.Context) (string, error) {
	if b.base != "" {
		return b.base, nil
	}
	dir := filepath.Join(b.dir, "base")
	p, _, err := b.serve(ctx, dir)
	if err != nil {
		return "", err
	}
	defer discard(p)
	file := filepath.Join(b.dir, "base.jsonl")
	if err := b.tool(ctx, "backup", "--state", dir, file); err != nil {
		return "", err
	}
	b.base = file
	return file, nil
}

// installation makes a state directory with so many desktops, or finds the one an earlier part has made.
func (b *bench) installation(ctx context.Context, desktops int) (string, error) {
	dir := filepath.Join(b.dir, fmt.Sprintf("state-%d", desktops))
	if _, err := os.Stat(dir); err == nil {
		return dir, nil
	}
	base, err := b.baseBackup(ctx)
	if err != nil {
		return "", err
	}
	file := dir + ".jsonl"
	if err := fill(ctx, base, file, desktops); err != nil {
		return "", err
	}
	if err := b.tool(ctx, "restore", "--state", dir, file); err != nil {
		return "", err
	}
	return dir, os.Remove(file)
}

// tool runs a subcommand of carrel to its end.
func (b *bench) tool(ctx context.Context, args ...string) error {
	if out, err := exec.CommandContext(ctx, b.carrel, args...).CombinedOutput(); err != nil {
		return fmt.Errorf("carrel %s: %w\n%s", args[0], err, trimmed(out))
	}
	return nil
}

// serve starts Carrel on a state directory and waits until it is ready.
func (b *bench) serve(ctx context.Context, dir string) (*process, *endpoint, error) {
	address, err := freeAddress()
	if err != nil {
		return nil, nil, err
	}
	p, err := b.launch(dir, address)
	if err != nil {
		return nil, nil, err
	}
	if err := p.saw(ctx, "carrel: ready\n"); err != nil {
		discard(p)
		return nil, nil, err
	}
	e, err := client(dir, address, p.pid())
	if err != nil {
		discard(p)
		return nil, nil, err
	}
	return p, e, nil
}

// launch starts Carrel as an operator would.
func (b *bench) launch(dir, address string) (*process, error) {
	file := filepath.Join(b.dir, "carrel.yaml")
	if err := os.WriteFile(file, []byte(configuration), 0o600); err != nil {
		return nil, err
	}
	return launch(b.carrel, "serve", "--simulate", "--state", dir, "--config", file, "--api-addr", address, "--portal-addr", "127.0.0.1:0")
}

// client reads what AWS clients are given: DIR/aws and DIR/ca.pem.
func client(dir, address string, pid int) (*endpoint, error) {
	signer := &sigv4.Signer{Service: "workspaces"}
	var secret string
	for _, s := range []struct {
		file, key string
		to        *string
	}{
		{"config", "region", &signer.Region},
		{"credentials", "aws_access_key_id", &signer.AccessKeyID},
		{"credentials", "aws_secret_access_key", &secret},
	} {
		text, err := os.ReadFile(filepath.Join(dir, "aws", s.file))
		if err != nil {
			return nil, err
		}
		found := regexp.MustCompile(`(?m)^` + s.key + ` *= *(\S+)$`).FindSubmatch(text)
		if found == nil {
			return nil, fmt.Errorf("%s/aws/%s has no %s", dir, s.file, s.key)
		}
		*s.to = string(found[1])
	}
	signer.Secret = sigv4.Secret(secret)
	conf, err := trust(filepath.Join(dir, "ca.pem"))
	if err != nil {
		return nil, err
	}
	return &endpoint{name: "carrel", address: address, tls: conf, signer: signer, pid: pid}, nil
}

// metricsURL asks a running Carrel where its metrics are.
func (b *bench) metricsURL(ctx context.Context, dir string) (string, error) {
	out, err := exec.CommandContext(ctx, b.carrel, "status", "--state", dir, "--json").Output()
	if err != nil {
		return "", err
	}
	var status struct {
		Metrics string `json:"metrics"`
	}
	if err := json.Unmarshal(out, &status); err != nil {
		return "", err
	}
	if status.Metrics == "" {
		return "", fmt.Errorf("carrel serves no metrics")
	}
	return status.Metrics, nil
}

const describe = "WorkspacesService.DescribeWorkspaces"

// byID, byUser and byPage are the reads of the figures; each answer must hold what was asked for.
func byID(i int) call {
	id := string(desktopID(i))
	return call{describe, `{"WorkspaceIds":["` + id + `"]}`, `"WorkspaceId":"` + id + `"`}
}

func byUser(i int) call {
	return call{describe, fmt.Sprintf(`{"DirectoryId":%q,"UserName":%q}`, simulatedDirectory, userName(i)), `"WorkspaceId":"` + string(desktopID(i)) + `"`}
}

func byPage(int) call {
	return call{describe, fmt.Sprintf(`{"DirectoryId":%q,"Limit":25}`, simulatedDirectory), `"NextToken":"`}
}

// spread makes n calls over so many desktops.
func spread(make func(int) call, n, desktops int) []call {
	var all []call
	for i := range n {
		all = append(all, make(i*7919%desktops))
	}
	return all
}

// pageAfter is the call for the page that a token leads to.
func pageAfter(token string) call {
	body := `{}`
	if token != "" {
		text, _ := json.Marshal(token) // a string always has a JSON form
		body = `{"NextToken":` + string(text) + `}`
	}
	return call{describe, body, `"WorkspaceId"`}
}

// page is what is counted of an answer.
type page struct {
	Workspaces []struct{ WorkspaceId string }
	NextToken  string
}
