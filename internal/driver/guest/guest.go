// Package guest holds the host's half of what a desktop's guest is told: who it is after a boot, a start from a memory template, or a
// resume (Document), and what it answers (Report, State). The other half is /usr/lib/carrel in the image.
//
// It refuses to build commands from names: everything a person chose goes as JSON on standard input. What a guest answers is the guest's word:
// it is read with bounds, and nothing outside of that guest may depend on it.
package guest

import (
	"context"
	"crypto/rand"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"regexp"
	"strconv"
	"strings"
	"time"
	"unicode"
	"unicode/utf8"
)

// Version of the document that this release writes; an image's renew refuses any other.
const Version = 1

// The commands of the guest.
const (
	renewPath = "/usr/lib/carrel/renew"
	statePath = "/usr/lib/carrel/state"
	// rehearsePath runs a session for nobody and ends it.
	rehearsePath = "/usr/lib/carrel/rehearse"
	datePath     = "/bin/date"
)

// HomeSerial is the serial number by which the guest finds its user volume, RootSerial its root volume: what the
// machine gives its disks.
const (
	RootSerial = "root"
	HomeSerial = "user"
)

// UserID is the uid and gid of a desktop's person.
const UserID = 1000

// Document is everything that makes a desktop one person's own. The zero value of an optional field leaves the guest's as it is.
type Document struct {
	Version int `json:"version"`
	// Hostname is the ComputerName ("WSAMZN-1A2B3C4D"): letters, digits and dashes, at most 63.
	Hostname string `json:"hostname"`
	// MachineID is 32 lower-case hexadecimal digits (machine-id(5)), the same for a desktop's whole life; optional.
	MachineID string `json:"machineId,omitempty"`
	// BootID is a UUID of this start: a memory template's own would be the same in all its copies (VMM-7). Optional.
	BootID string `json:"bootId,omitempty"`
	// Seed are random bytes from the host, at least 32, stirred in before anything of this start draws a random number.
	Seed []byte `json:"seed,omitempty"`
	// Time is the host's, in seconds since 1970; 0: left alone.
	Time int64 `json:"time,omitempty"`
	// SSHHostKeys replace whatever host keys the image or template had.
	SSHHostKeys []SSHHostKey `json:"sshHostKeys,omitempty"`
	User        User         `json:"user"`
	Home        Home         `json:"home"`
	// Locale is a POSIX name with UTF-8 ("en_US.UTF-8").
	Locale   string   `json:"locale,omitempty"`
	Keyboard Keyboard `json:"keyboard"`
	// TimeZone is a name of the tz database ("Europe/Paris").
	TimeZone string  `json:"timeZone,omitempty"`
	Network  Network `json:"network"`
}

// SSHHostKey is one key of the guest's SSH server, if it has one.
type SSHHostKey struct {
	// Type is "ed25519", "ecdsa" or "rsa".
	Type string `json:"type"`
	// Private is in OpenSSH's format, Public one line.
	Private string `json:"private"`
	Public  string `json:"public"`
}

// User is the person's account. It has no password: who may see the screen is decided before the guest.
type User struct {
	// Name is a Unix name (UnixName); FullName what programs show.
	Name     string `json:"name"`
	FullName string `json:"fullName,omitempty"`
	// UID is UserID.
	UID int `json:"uid"`
	// Administrator may become root in the guest.
	Administrator bool `json:"administrator,omitempty"`
}

// Home is where the person's files are.
type Home struct {
	// Serial of the disk to mount at /home ("user"); empty: home is on the root volume.
	Serial string `json:"serial,omitempty"`
}

// Keyboard names an XKB layout.
type Keyboard struct {
	Layout  string `json:"layout,omitempty"`
	Variant string `json:"variant,omitempty"`
}

// Network is the desktop's card. Its address comes by DHCP.
type Network struct {
	// MAC of the card, lower case with colons; empty: no network.
	MAC string `json:"mac,omitempty"`
}

var (
	hostname  = regexp.MustCompile(`^[A-Za-z0-9]([A-Za-z0-9-]{0,61}[A-Za-z0-9])?$`)
	machineID = regexp.MustCompile(`^[0-9a-f]{32}$`)
	uuid      = regexp.MustCompile(`^[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}$`)
	unixName  = regexp.MustCompile(`^[a-z][a-z0-9_-]{0,30}$`)
	serial    = regexp.MustCompile(`^[a-z0-9-]{1,20}$`)
	locale    = regexp.MustCompile(`^(C|[a-z]{2,3}_[A-Z]{2})\.UTF-8$`)
	layout    = regexp.MustCompile(`^[a-z0-9_-]{2,20}$`)
	variant   = regexp.MustCompile(`^[a-z0-9_-]{0,30}$`)
	timeZone  = regexp.MustCompile(`^[A-Za-z0-9_+-]+(/[A-Za-z0-9_+-]+){0,2}$`)
)

// Validate names the first field that the guest could not use.
func (d *Document) Validate() error {
	optional := func(re *regexp.Regexp, s string) bool { return s == "" || re.MatchString(s) }
	mac, macErr := net.ParseMAC(d.Network.MAC)
	checks := []struct {
		good bool
		what string
	}{
		{d.Version == Version, "version"},
		{hostname.MatchString(d.Hostname), "hostname"},
		{optional(machineID, d.MachineID) && strings.Trim(d.MachineID, "0") != "" || d.MachineID == "", "machine id"},
		{optional(uuid, d.BootID), "boot id"},
		{len(d.Seed) == 0 || len(d.Seed) >= 32 && len(d.Seed) <= 512, "seed (32 to 512 bytes)"},
		{d.Time >= 0, "time"},
		{unixName.MatchString(d.User.Name) && !reserved[d.User.Name], "user name"},
		{d.User.FullName == FullName(d.User.FullName), "full name"},
		{d.User.UID == UserID, "uid"},
		{optional(serial, d.Home.Serial), "serial number of the user volume"},
		{optional(locale, d.Locale), "locale"},
		{optional(layout, d.Keyboard.Layout), "keyboard layout"},
		{variant.MatchString(d.Keyboard.Variant), "keyboard variant"},
		{optional(timeZone, d.TimeZone), "time zone"},
		{d.Network.MAC == "" || macErr == nil && len(mac) == 6 && mac.String() == d.Network.MAC, "MAC"},
	}
	for _, c := range checks {
		if !c.good {
			return fmt.Errorf("guest document: %s is not usable", c.what)
		}
	}
	for _, k := range d.SSHHostKeys {
		if k.Type != "ed25519" && k.Type != "ecdsa" && k.Type != "rsa" {
			return fmt.Errorf("guest document: SSH host key of type %q", k.Type)
		}
	}
	return nil
}

// reserved are names that the images have given to others.
var reserved = map[string]bool{
	"root": true, "daemon": true, "bin": true, "sys": true, "sync": true, "games": true, "man": true, "lp": true, "mail": true, "news": true,
	"uucp": true, "proxy": true, "www-data": true, "backup": true, "list": true, "irc": true, "gnats": true, "nobody": true, "messagebus": true,
	"polkitd": true, "systemd-network": true, "systemd-resolve": true, "systemd-timesync": true, "adm": true, "tty": true, "disk": true,
	"kmem": true, "dialout": true, "fax": true, "voice": true, "cdrom": true, "floppy": true, "tape": true, "sudo": true, "audio": true,
	"dip": true, "operator": true, "src": true, "shadow": true, "utmp": true, "video": true, "sasl": true, "plugdev": true, "staff": true,
	"users": true, "nogroup": true, "input": true, "sgx": true, "kvm": true, "render": true, "netdev": true, "crontab": true, "tss": true,
}

// UnixName makes the name of a Unix account of a directory's user name ("Ada.Lovelace" -> "ada-lovelace"). It always gives a usable
// name; two people never share a guest, so it need not be unique.
func UnixName(user string) string {
	user, _, _ = strings.Cut(user, "@")
	var b strings.Builder
	for _, r := range strings.ToLower(user) {
		switch {
		case r >= 'a' && r <= 'z', r >= '0' && r <= '9', r == '_', r == '-':
			b.WriteRune(r)
		default:
			b.WriteByte('-')
		}
	}
	name := strings.Trim(b.String(), "-_")
	if name == "" {
		return "person"
	}
	if name[0] >= '0' && name[0] <= '9' || reserved[name] {
		name = "u-" + name
	}
	if len(name) > 31 {
		name = strings.TrimRight(name[:31], "-_")
	}
	return name
}

// FullName makes of a directory's display name what passwd(5) can hold: no colon, comma or control character, at most 128 bytes.
func FullName(s string) string {
	s = strings.Map(func(r rune) rune {
		if r == ':' || r == ',' || r == utf8.RuneError || unicode.IsControl(r) {
			return -1
		}
		return r
	}, s)
	for len(s) > 128 {
		_, n := utf8.DecodeLastRuneInString(s)
		s = s[:len(s)-n]
	}
	return strings.TrimSpace(s)
}

// Fresh gives d what must differ at every start: a boot id, random bytes, and the time.
func (d *Document) Fresh(random io.Reader, now time.Time) error {
	if random == nil {
		random = rand.Reader
	}
	var id [16]byte
	seed := make([]byte, 64)
	if _, err := io.ReadFull(random, id[:]); err != nil {
		return fmt.Errorf("guest document: %w", err)
	}
	if _, err := io.ReadFull(random, seed); err != nil {
		return fmt.Errorf("guest document: %w", err)
	}
	id[6], id[8] = id[6]&0x0f|0x40, id[8]&0x3f|0x80 // RFC 9562 version 4
	h := hex.EncodeToString(id[:])
	d.BootID = h[:8] + "-" + h[8:12] + "-" + h[12:16] + "-" + h[16:20] + "-" + h[20:]
	d.Seed, d.Time = seed, now.Unix()
	return nil
}

// Command is a program of the guest to be run by its agent. Input is its standard input. Args hold nothing that a person chose.
type Command struct {
	Path  string
	Args  []string
	Input []byte
}

// Outcome is how a Command ended, by the guest's word.
type Outcome struct {
	Code           int
	Stdout, Stderr []byte
}

// Runner runs commands in a guest: its agent (driver/qmp).
type Runner interface {
	Run(ctx context.Context, c Command) (Outcome, error)
}

// Report is what a guest says that it has become.
type Report struct {
	OK bool `json:"ok"`
	// Step is where it stopped ("home"), or "done".
	Step      string   `json:"step"`
	Hostname  string   `json:"hostname"`
	MachineID string   `json:"machineId"`
	BootID    string   `json:"bootId"`
	Warnings  []string `json:"warnings"`
}

// ErrRefused: the guest ran the command and says that it could not do it.
var ErrRefused = errors.New("guest: not done")

// maxAnswer bounds what is read of a guest's answer, in bytes.
const maxAnswer = 64 << 10

// Renew tells the guest who it is. It may be repeated: with the same document the guest stays as it is, and a session that is open
// stays open. ErrRefused, with the step and the guest's words; any other error is the runner's.
func Renew(ctx context.Context, r Runner, d Document) (Report, error) {
	if err := d.Validate(); err != nil {
		return Report{}, err
	}
	input, err := json.Marshal(d)
	if err != nil {
		return Report{}, fmt.Errorf("guest document: %w", err)
	}
	defer clear(input)
	out, err := r.Run(ctx, Command{Path: renewPath, Input: input})
	if err != nil {
		return Report{}, fmt.Errorf("renew the guest: %w", err)
	}
	report, err := ParseReport(out.Stdout)
	if err != nil {
		return Report{}, fmt.Errorf("%w: exit status %d: %w: %s", ErrRefused, out.Code, err, words(out.Stderr))
	}
	if out.Code != 0 || !report.OK {
		return report, fmt.Errorf("%w: step %q, exit status %d: %s", ErrRefused, report.Step, out.Code, words(out.Stderr))
	}
	return report, nil
}

// Session is how far a person's session is.
type Session string

// The stages of a session.
const (
	NoSession       Session = "none"
	SessionStarting Session = "starting"
	SessionUp       Session = "up"
)

// State is how far a guest is.
type State struct {
	Version int `json:"version"`
	// X: the X server runs. Before Renew this is all there is to wait for: a machine with it is ready to become a template.
	X       bool    `json:"x"`
	Session Session `json:"session"`
	// Rehearses: the guest knows Rehearse.
	Rehearses bool `json:"rehearses"`
}

// Inspect asks the guest how far it is.
func Inspect(ctx context.Context, r Runner) (State, error) {
	out, err := r.Run(ctx, Command{Path: statePath})
	if err != nil {
		return State{}, fmt.Errorf("inspect the guest: %w", err)
	}
	if out.Code != 0 {
		return State{}, fmt.Errorf("%w: exit status %d: %s", ErrRefused, out.Code, words(out.Stderr))
	}
	return ParseState(out.Stdout)
}

// ErrNoSession: no session came up, and nothing is left of it.
var ErrNoSession = errors.New("guest: no session came up")

// Rehearse has a guest that is nobody's run a session and end it, with everything that it left, so that what sessions need is in its memory.
// ErrNoSession. After any other error something of a session may be left.
func Rehearse(ctx context.Context, r Runner) error {
	out, err := r.Run(ctx, Command{Path: rehearsePath})
	if err != nil {
		return fmt.Errorf("rehearse a session: %w", err)
	}
	switch out.Code {
	case 0:
		return nil
	case 1:
		return fmt.Errorf("%w: %s", ErrNoSession, words(out.Stderr))
	}
	return fmt.Errorf("%w: exit status %d: %s", ErrRefused, out.Code, words(out.Stderr))
}

// SetTime sets a guest's clock: all that one has to be told that goes on where it was.
func SetTime(ctx context.Context, r Runner, now time.Time) error {
	out, err := r.Run(ctx, Command{Path: datePath, Args: []string{"-u", "-s", "@" + strconv.FormatInt(now.Unix(), 10)}})
	if err != nil {
		return fmt.Errorf("set the guest's clock: %w", err)
	}
	if out.Code != 0 {
		return fmt.Errorf("%w: exit status %d: %s", ErrRefused, out.Code, words(out.Stderr))
	}
	return nil
}

// Digest names what the document makes of a guest, without what is new at every start: a guest that was told this and has gone on since need not be told again.
func (d Document) Digest() string {
	d.BootID, d.Seed, d.Time = "", nil, 0
	b, err := json.Marshal(d)
	if err != nil {
		panic(err) // Texts and numbers.
	}
	sum := sha256.Sum256(b)
	return hex.EncodeToString(sum[:])
}

// ParseReport reads a guest's report: hostile bytes. Its texts are cut to what a log line bears, without control characters.
func ParseReport(data []byte) (Report, error) {
	var r Report
	if err := decode(data, &r); err != nil {
		return Report{}, err
	}
	for _, s := range []*string{&r.Step, &r.Hostname, &r.MachineID, &r.BootID} {
		*s = words([]byte(*s))
	}
	if len(r.Warnings) > 20 {
		r.Warnings = r.Warnings[:20]
	}
	for i := range r.Warnings {
		r.Warnings[i] = words([]byte(r.Warnings[i]))
	}
	return r, nil
}

// ParseState reads a guest's state: hostile bytes.
func ParseState(data []byte) (State, error) {
	var s State
	if err := decode(data, &s); err != nil {
		return State{}, err
	}
	if s.Version != Version || s.Session != NoSession && s.Session != SessionStarting && s.Session != SessionUp {
		return State{}, errors.New("guest: an answer of another version")
	}
	return s, nil
}

func decode(data []byte, v any) error {
	if len(data) > maxAnswer {
		return fmt.Errorf("guest: an answer of %d bytes", len(data))
	}
	if err := json.Unmarshal(data, v); err != nil {
		return fmt.Errorf("guest: an answer that is none: %w", err)
	}
	return nil
}

// words makes a guest's text fit for an error or a log: one line, printable, at most 300 bytes.
func words(b []byte) string {
	b = b[:min(len(b), 4096)]
	s := strings.TrimSpace(strings.Map(func(r rune) rune {
		if r == '\n' || r == '\t' {
			return ' '
		}
		if r == utf8.RuneError || !unicode.IsPrint(r) {
			return -1
		}
		return r
	}, string(b)))
	for len(s) > 300 {
		_, n := utf8.DecodeLastRuneInString(s)
		s = s[:len(s)-n]
	}
	return s
}
