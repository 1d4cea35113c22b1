package webui

import (
	"io/fs"
	"regexp"
	"strings"
	"testing"
)

// page is the portal's one page.
func page(t *testing.T) string {
	t.Helper()
	data, err := fs.ReadFile(Pages(), "index.html")
	if err != nil {
		t.Fatal(err)
	}
	return string(data)
}

// The door's Content-Security-Policy forbids what stands in the page itself (SES-4): it would silently not work.
func TestSES4ThePageHasNoInlineScriptStyleOrHandler(t *testing.T) {
	for name, wrong := range map[string]string{"script": `<script[^>]*>[^<]`, "style": `<style|\sstyle=`, "handler": `\son[a-z]+=`, "another site": `(src|href)="(https?:)?//`} {
		if found := regexp.MustCompile(wrong).FindString(page(t)); found != "" {
			t.Errorf("%s: %q", name, found)
		}
	}
}

func TestNoScriptPutsMarkupIntoThePage(t *testing.T) {
	wrong := regexp.MustCompile(`innerHTML|outerHTML|insertAdjacentHTML|document\.write|\beval\(|new Function|console\.|sessionStorage`)
	each(t, func(name, text string) {
		if found := wrong.FindString(text); found != "" {
			t.Errorf("%s: %s", name, found)
		}
	})
}

// Without it the browser finds one module after the other, a round trip each.
func TestEveryModuleIsPreloaded(t *testing.T) {
	html := page(t)
	each(t, func(name, _ string) {
		want := `<link rel="modulepreload" href="js/` + name + `">`
		if name == "main.mjs" || name == "screen.mjs" { // The script itself, and the one that needs noVNC.
			want = ""
		}
		if !strings.Contains(html, want) {
			t.Errorf("index.html lacks %s", want)
		}
	})
}

// each gives every module of ours.
func each(t *testing.T, fn func(name, text string)) {
	t.Helper()
	modules, err := fs.Glob(Pages(), "js/*.mjs")
	if err != nil || len(modules) < 10 {
		t.Fatalf("%v, %d modules", err, len(modules))
	}
	for _, m := range modules {
		data, err := fs.ReadFile(Pages(), m)
		if err != nil {
			t.Fatal(err)
		}
		fn(strings.TrimPrefix(m, "js/"), string(data))
	}
}
