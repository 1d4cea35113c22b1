package gateway

import (
	"io"
	"io/fs"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"testing/fstest"

	"carrel/internal/webui"
)

// asked gets a page from a gateway, with a header when it has a value.
func asked(h http.Handler, target, header, value string) (int, http.Header, string) {
	r := httptest.NewRequest("GET", target, nil)
	if value != "" {
		r.Header.Set(header, value)
	}
	w := httptest.NewRecorder()
	h.ServeHTTP(w, r)
	body, _ := io.ReadAll(w.Result().Body)
	return w.Code, w.Header(), string(body)
}

func TestPagesAreAskedForAgainAndSentOnce(t *testing.T) {
	g := newGateway(t, nil)
	g.Pages = fstest.MapFS{"index.html": {Data: []byte("<h1>Carrel</h1>")}, "js/main.mjs": {Data: []byte("begin();")}, "js/same.mjs": {Data: []byte("begin();")}}
	h := g.Handler()
	status, head, body := asked(h, "/js/main.mjs", "", "")
	tag := head.Get("ETag")
	if status != 200 || body != "begin();" || head.Get("Cache-Control") != "no-cache" || !strings.HasPrefix(head.Get("Content-Type"), "text/javascript") {
		t.Fatalf("%d %q %v", status, body, head)
	}
	if len(tag) < 10 || !strings.HasPrefix(tag, `"`) || !strings.HasSuffix(tag, `"`) {
		t.Errorf("%s is no strong validator", tag)
	}
	for _, known := range []string{tag, "W/" + tag, `"another", ` + tag, "*"} {
		if status, head, body := asked(h, "/js/main.mjs", "If-None-Match", known); status != http.StatusNotModified || body != "" || head.Get("ETag") != tag || head.Get("Cache-Control") != "no-cache" {
			t.Errorf("If-None-Match %s: %d %q %v", known, status, body, head)
		}
	}
	if status, _, body := asked(h, "/js/main.mjs", "If-None-Match", `"another"`); status != 200 || body != "begin();" {
		t.Errorf("what the browser has is another version: %d %q", status, body)
	}
	if _, head, _ := asked(h, "/js/same.mjs", "", ""); head.Get("ETag") != tag {
		t.Error("the same contents have another tag")
	}
	g.Pages = fstest.MapFS{"js/main.mjs": {Data: []byte("begin(1);")}}
	if status, head, body := asked(g.Handler(), "/js/main.mjs", "If-None-Match", tag); status != 200 || body != "begin(1);" || head.Get("ETag") == tag {
		t.Errorf("the next version: %d %q %v", status, body, head)
	}
	if status, head, _ := asked(h, "/js/main.mjs", "Range", "bytes=0-4"); status != http.StatusPartialContent || head.Get("ETag") != tag {
		t.Errorf("a part: %d %v", status, head)
	}
	if r := ask(h, "HEAD", "/js/main.mjs"); r.StatusCode != 200 || r.Header.Get("ETag") != tag || r.ContentLength > 8 {
		t.Errorf("HEAD: %d %v", r.StatusCode, r.Header)
	}
	// What is not there may be there after the next build.
	for _, path := range []string{"/js", "/js/", "/js/none.mjs", "//js/main.mjs", "/js/./main.mjs"} {
		if status, head, _ := asked(h, path, "If-None-Match", "*"); status == 200 || status == http.StatusNotModified || head.Get("ETag") != "" {
			t.Errorf("%s: %d %v", path, status, head)
		}
	}
}

func TestEveryPageOfThePortalHasItsTag(t *testing.T) {
	g := newGateway(t, nil)
	g.Pages = webui.Pages()
	h, seen := g.Handler(), 0
	err := fs.WalkDir(g.Pages, ".", func(name string, d fs.DirEntry, err error) error {
		if err != nil || d.IsDir() {
			return err
		}
		seen++
		_, head, _ := asked(h, "/"+name, "", "")
		if status, _, body := asked(h, "/"+name, "If-None-Match", head.Get("ETag")); status != http.StatusNotModified || body != "" {
			t.Errorf("%s, whose tag is %q: %d, %d bytes", name, head.Get("ETag"), status, len(body))
		}
		return nil
	})
	if err != nil || seen < 20 {
		t.Errorf("%v, %d files", err, seen)
	}
	if status, head, body := asked(h, "/", "", ""); status != 200 || head.Get("ETag") == "" || !strings.Contains(body, "<title>") {
		t.Errorf("/: %d %v", status, head)
	}
}
