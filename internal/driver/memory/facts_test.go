package memory

import (
	"bytes"
	"compress/gzip"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"carrel/internal/driver"
)

// fakeHost is a host with these files.
func fakeHost(t *testing.T, files map[string]string) Host {
	t.Helper()
	root := t.TempDir()
	for name, content := range files {
		path := filepath.Join(root, name)
		if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
			t.Fatal(err)
		}
		if strings.HasSuffix(name, ".gz") {
			var b bytes.Buffer
			z := gzip.NewWriter(&b)
			_, _ = z.Write([]byte(content))
			_ = z.Close()
			content = b.String()
		}
		if err := os.WriteFile(path, []byte(content), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	return Host{Root: root}
}

const noSwap = "Filename\t\t\t\tType\t\tSize\n"

// VMM-6: what each certificate says of the host.
func TestFactsSayWhatTheKernelSays(t *testing.T) {
	good := map[string]string{
		"proc/sys/kernel/osrelease": "6.1.0-38-amd64\n", "proc/sys/kernel/version": "#1 SMP\n", "proc/swaps": noSwap,
		"proc/cmdline": "quiet init_on_free=1 init_on_alloc=on\n", "sys/kernel/mm/ksm/run": "0\n", "sys/kernel/mm/ksm/pages_shared": "0\n",
	}
	best := driver.HostFacts{Kernel: "6.1.0-38-amd64 #1 SMP", InitOnFree: true, InitOnAlloc: true}
	for name, c := range map[string]struct {
		change map[string]string // "" removes the file.
		want   func(*driver.HostFacts)
	}{
		"the best host":           {nil, func(*driver.HostFacts) {}},
		"a swap device":           {map[string]string{"proc/swaps": noSwap + "/dev/sda2 partition 1 0 -2\n"}, func(f *driver.HostFacts) { f.SwapActive = true }},
		"swaps unreadable":        {map[string]string{"proc/swaps": ""}, func(f *driver.HostFacts) { f.SwapActive = true }},
		"KSM runs":                {map[string]string{"sys/kernel/mm/ksm/run": "1"}, func(f *driver.HostFacts) { f.KSMActive = true }},
		"KSM has merged":          {map[string]string{"sys/kernel/mm/ksm/pages_shared": "9"}, func(f *driver.HostFacts) { f.KSMActive = true }},
		"KSM undone":              {map[string]string{"sys/kernel/mm/ksm/run": "2"}, func(*driver.HostFacts) {}},
		"no KSM in the kernel":    {map[string]string{"sys/kernel/mm/ksm/run": "", "sys/kernel/mm/lru": "x"}, func(*driver.HostFacts) {}},
		"no parameters":           {map[string]string{"proc/cmdline": "quiet"}, func(f *driver.HostFacts) { f.InitOnFree, f.InitOnAlloc = false, false }},
		"the last counts":         {map[string]string{"proc/cmdline": "init_on_free=1 init_on_alloc=1 init_on_free=0"}, func(f *driver.HostFacts) { f.InitOnFree = false }},
		"dash for underscore":     {map[string]string{"proc/cmdline": "init-on-free=y init_on_alloc=Y"}, func(*driver.HostFacts) {}},
		"for the first process":   {map[string]string{"proc/cmdline": "init_on_alloc=1 -- init_on_free=1"}, func(f *driver.HostFacts) { f.InitOnFree = false }},
		"nonsense is the default": {map[string]string{"proc/cmdline": "init_on_free=maybe init_on_alloc=1"}, func(f *driver.HostFacts) { f.InitOnFree = false }},
		"built in, config.gz": {map[string]string{"proc/cmdline": "init_on_alloc=off", "proc/config.gz": "A=y\nCONFIG_INIT_ON_FREE_DEFAULT_ON=y\nCONFIG_INIT_ON_ALLOC_DEFAULT_ON=y\n"},
			func(f *driver.HostFacts) { f.InitOnAlloc = false }},
		"built in, /boot": {map[string]string{"proc/cmdline": "x", "boot/config-6.1.0-38-amd64": "CONFIG_INIT_ON_ALLOC_DEFAULT_ON=y\n# CONFIG_INIT_ON_FREE_DEFAULT_ON is not set"},
			func(f *driver.HostFacts) { f.InitOnFree = false }},
	} {
		t.Run(name, func(t *testing.T) {
			files := map[string]string{}
			for _, set := range []map[string]string{good, c.change} {
				for path, content := range set {
					files[path] = content
					if content == "" {
						delete(files, path)
					}
				}
			}
			want := best
			c.want(&want)
			if got := fakeHost(t, files).Facts(); got != want {
				t.Errorf("got  %+v\nwant %+v", got, want)
			}
		})
	}
}

func TestFactsOfAHostThatTellsNothingAreTheWorst(t *testing.T) {
	if got := fakeHost(t, nil).Facts(); got != (driver.HostFacts{SwapActive: true, KSMActive: true}) {
		t.Errorf("got %+v", got)
	}
}

// VMM-6.
func TestCoreDumpsAreOffOnlyWhenNobodyCanTakeOne(t *testing.T) {
	limits := func(soft, hard string) string {
		return "Limit                     Soft Limit           Hard Limit           Units     \nMax core file size        " + soft + "                    " + hard + "                    bytes     \n"
	}
	for name, c := range map[string]struct {
		pattern, limits string
		want            bool
	}{
		"limit 0":                             {"core\n", limits("0", "0"), true},
		"limit 1":                             {"core\n", limits("1", "1"), true},
		"limit 1, a program takes dumps":      {"|/usr/lib/systemd/systemd-coredump %P\n", limits("1", "1"), true},
		"limit 0 of 1, a program takes dumps": {"|/usr/lib/systemd/systemd-coredump %P\n", limits("0", "1"), false},
		"limit 0 of 1":                        {"core\n", limits("0", "1"), true},
		"limit 1 that can be raised":          {"core\n", limits("1", "4096"), false},
		"limit 2":                             {"core\n", limits("2", "2"), false},
		"limit 1, a socket takes dumps":       {"@/run/core.socket\n", limits("1", "1"), false},
		"limit 0 that can be raised":          {"core\n", limits("0", "unlimited"), false},
		"no limit":                            {"core\n", limits("unlimited", "unlimited"), false},
		"a program takes dumps":               {"|/usr/lib/systemd/systemd-coredump %P\n", limits("0", "0"), false},
		"a socket takes dumps":                {"@/run/core.socket\n", limits("0", "0"), false},
		"pattern unreadable":                  {"", limits("0", "0"), false},
		"limits unreadable":                   {"core\n", "", false},
		"limits of another new shape":         {"core\n", "Max core file size 0\n", false},
	} {
		t.Run(name, func(t *testing.T) {
			files := map[string]string{"proc/42/limits": c.limits, "proc/sys/kernel/core_pattern": c.pattern}
			for path, content := range files {
				if content == "" {
					delete(files, path)
				}
			}
			if got := fakeHost(t, files).CoreDumpsOff(42); got != c.want {
				t.Errorf("got %v, want %v", got, c.want)
			}
		})
	}
}

func TestMemoryLockLimit(t *testing.T) {
	for text, want := range map[string]int64{"Max locked memory         8388608              8388608              bytes": 8388608, "Max locked memory unlimited unlimited bytes": -1, "": 0} {
		if got := fakeHost(t, map[string]string{"proc/self/limits": text}).MemoryLock(); got != want {
			t.Errorf("%q: got %d, want %d", text, got, want)
		}
	}
}
