package gateway

import (
	"crypto/sha256"
	"encoding/hex"
	"io"
	"io/fs"
	"net/http"
	"strings"
	"time"
)

// pages serves the embedded web assets and nothing else: no listing of a directory, no redirect. Their names stay the same from one
// version to the next, so browsers keep them but ask each time (RFC 9111 section 5.2.2.4); most answers are "not modified" and empty.
type pages struct {
	files fs.FS
	// tags are the strong validators of the files: a hash of what is in them, made once.
	tags map[string]string
}

func newPages(files fs.FS) *pages {
	p := &pages{files: files, tags: map[string]string{}}
	err := fs.WalkDir(files, ".", func(name string, d fs.DirEntry, err error) error {
		if err != nil || d.IsDir() {
			return err
		}
		data, err := fs.ReadFile(files, name)
		if err != nil {
			return err
		}
		sum := sha256.Sum256(data)
		p.tags[name] = `"` + hex.EncodeToString(sum[:16]) + `"`
		return nil
	})
	if err != nil {
		panic(err) // They are in the binary.
	}
	return p
}

func (p *pages) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	name := strings.TrimPrefix(r.URL.Path, "/")
	if name == "" {
		name = "index.html"
	}
	tag, ok := p.tags[name]
	if !ok {
		text(w, http.StatusNotFound, "not found\n")
		return
	}
	f, err := p.files.Open(name)
	if err != nil {
		text(w, http.StatusInternalServerError, "not readable\n")
		return
	}
	defer f.Close()
	w.Header().Set("ETag", tag)
	w.Header().Set("Cache-Control", "no-cache")
	// The type is told by the name. The library answers If-None-Match, Range and HEAD; an embedded file can seek.
	http.ServeContent(w, r, name, time.Time{}, f.(io.ReadSeeker))
}
