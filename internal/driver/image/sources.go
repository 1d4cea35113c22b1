package image

import (
	"bufio"
	"context"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"sort"
	"strings"
)

// debianMirror and its keys are used where the host has no sources for the release: on another distribution.
const (
	debianMirror   = "http://deb.debian.org/debian"
	securityMirror = "http://deb.debian.org/debian-security"
	debianKeyring  = "/usr/share/keyrings/debian-archive-keyring.gpg"
)

// wantedSuites are what an image is made from.
var wantedSuites = []string{suite, suite + "-updates", suite + "-security"}

// sources gives the lines of sources.list(5) that an image is made from: those of the host for the release, so that a build works behind a
// site's own mirror; mirror, when given, replaces all of them.
func sources(etc, mirror string) ([]string, error) {
	if mirror != "" {
		if strings.ContainsAny(mirror, " \t\r\n[]") || !strings.Contains(mirror, "://") {
			return nil, fmt.Errorf("mirror %q is no URL", mirror)
		}
		mirror = strings.TrimRight(mirror, "/")
		lines := []string{debLine(mirror, suite, debianKeyring), debLine(mirror, suite+"-updates", debianKeyring)}
		return append(lines, debLine(mirror+"-security", suite+"-security", debianKeyring)), nil
	}
	var lines []string
	paths := []string{filepath.Join(etc, "sources.list")}
	for _, glob := range []string{"sources.list.d/*.list", "sources.list.d/*.sources"} {
		more, err := filepath.Glob(filepath.Join(etc, glob))
		if err != nil {
			return nil, err
		}
		paths = append(paths, more...)
	}
	for _, p := range paths {
		data, err := os.ReadFile(p)
		if os.IsNotExist(err) {
			continue
		}
		if err != nil {
			return nil, fmt.Errorf("read apt's sources: %w", err)
		}
		if strings.HasSuffix(p, ".sources") {
			lines = append(lines, deb822Lines(string(data))...)
		} else {
			lines = append(lines, oneLines(string(data))...)
		}
	}
	sort.Strings(lines)
	lines = slices.Compact(lines)
	if !slices.ContainsFunc(lines, func(l string) bool { return strings.Contains(l, " "+suite+" main") }) {
		return []string{
			debLine(debianMirror, suite, debianKeyring), debLine(debianMirror, suite+"-updates", debianKeyring),
			debLine(securityMirror, suite+"-security", debianKeyring),
		}, nil
	}
	return lines, nil
}

// debLine is one line of sources.list(5).
func debLine(uri, dist, keyring string) string {
	if keyring != "" {
		return fmt.Sprintf("deb [signed-by=%s] %s %s main", keyring, uri, dist)
	}
	return fmt.Sprintf("deb %s %s main", uri, dist)
}

// oneLines reads the one-line style: deb [option=value ...] uri suite component...
func oneLines(text string) (out []string) {
	for sc := bufio.NewScanner(strings.NewReader(text)); sc.Scan(); {
		line, _, _ := strings.Cut(sc.Text(), "#")
		rest, ok := strings.CutPrefix(strings.TrimSpace(line), "deb ")
		if !ok {
			continue
		}
		keyring := ""
		if rest = strings.TrimSpace(rest); strings.HasPrefix(rest, "[") {
			options, after, found := strings.Cut(rest[1:], "]")
			if !found {
				continue
			}
			rest = after
			for _, o := range strings.Fields(options) {
				if v, ok := strings.CutPrefix(o, "signed-by="); ok {
					keyring = v
				}
			}
		}
		f := strings.Fields(rest)
		if len(f) >= 3 && slices.Contains(wantedSuites, f[1]) && slices.Contains(f[2:], "main") {
			out = append(out, debLine(f[0], f[1], keyring))
		}
	}
	return out
}

// deb822Lines reads the deb822 style. A key in the file itself (Signed-By over several lines) is left to the default keyring.
func deb822Lines(text string) (out []string) {
	for _, stanza := range strings.Split(strings.ReplaceAll(text, "\r", ""), "\n\n") {
		field := map[string]string{}
		for _, line := range strings.Split(stanza, "\n") {
			if strings.HasPrefix(line, "#") {
				continue
			}
			if k, v, ok := strings.Cut(line, ":"); ok && !strings.HasPrefix(line, " ") {
				field[strings.ToLower(k)] = strings.TrimSpace(v)
			}
		}
		if !slices.Contains(strings.Fields(field["types"]), "deb") || strings.EqualFold(field["enabled"], "no") {
			continue
		}
		if !slices.Contains(strings.Fields(field["components"]), "main") {
			continue
		}
		keyring := field["signed-by"]
		if !strings.HasPrefix(keyring, "/") || strings.ContainsAny(keyring, " \t") {
			keyring = debianKeyring
		}
		for _, uri := range strings.Fields(field["uris"]) {
			for _, s := range strings.Fields(field["suites"]) {
				if slices.Contains(wantedSuites, s) {
					out = append(out, debLine(uri, s, keyring))
				}
			}
		}
	}
	return out
}

// aptOptions gives the host's settings for reaching mirrors (proxies, certificates): mmdebstrap reads none of them by itself.
func aptOptions(ctx context.Context) []string {
	out, err := exec.CommandContext(ctx, "apt-config", "dump").Output()
	if err != nil {
		return nil // no apt on this host: nothing to take over
	}
	var opts []string
	for _, line := range strings.Split(string(out), "\n") {
		name, _, _ := strings.Cut(line, " ")
		switch lower := strings.ToLower(name); {
		case strings.Contains(lower, "proxy-auto-detect"):
			// Names a program of the host.
		case strings.HasPrefix(lower, "acquire::http::"), strings.HasPrefix(lower, "acquire::https::"),
			lower == "acquire::check-valid-until", lower == "acquire::check-date", lower == "acquire::forceipv4":
			if !strings.HasSuffix(line, ` "";`) {
				opts = append(opts, strings.TrimSuffix(line, ";"))
			}
		}
	}
	return opts
}
