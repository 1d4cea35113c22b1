// Package config is Carrel's configuration: one struct, decoded strictly from one YAML file, with its defaults and the check
// that reports every problem at once.
//
// It refuses to be ambient (nobody reads it but internal/app, which hands the parts their values) and to hold secrets: keys
// are files named here. docs/operate/carrel.yaml is generated from the comments below.
package config

import (
	"fmt"
	"strconv"
	"strings"
	"time"
)

// Config is the whole configuration. The zero value works: Complete fills in the defaults, and everywhere a zero ("" or 0)
// means the default.
type Config struct {
	// Where Carrel keeps what it must not lose.
	State State `yaml:"state"`
	// The listener for the AWS CLI, SDKs and Terraform.
	API API `yaml:"api"`
	// The listener for people's browsers, which also serves /healthz, /readyz and the revocation list.
	Portal Portal `yaml:"portal"`
	// The encryption of both listeners.
	TLS TLS `yaml:"tls"`
	// Name of the region that this installation is, as clients must set it. Fixed at the first start. Default: what the state has,
	// us-east-1 at the first start.
	Region string `yaml:"region"`
	// The account's 12 digits. Fixed at the first start. Default: what the state has, drawn at random at the first start.
	AccountID string `yaml:"accountID"`
	// Second part of every ARN. Fixed at the first start: ARNs in policies would stop matching. Default: what the state has, aws
	// at the first start.
	Partition string `yaml:"partition"`
	// Run with simulated drivers instead of real desktops: no root, no QEMU, no Samba. Default false. Fixed at the first start:
	// simulated and real desktops never share a state.
	Simulate bool `yaml:"simulate"`
	// How long simulated desktops take, in the simulation's time. Without effect unless simulate is true.
	Simulation Simulation `yaml:"simulation"`
	// The host that runs real desktops: this machine. Without effect when simulate is true.
	Host Host `yaml:"host"`
	// An external etcd cluster instead of the embedded one, for several control nodes.
	Etcd Etcd `yaml:"etcd"`
	// Prometheus metrics and profiles, on a listener of their own.
	Metrics Metrics `yaml:"metrics"`
	// What is written to standard error.
	Log Log `yaml:"log"`
	// How many of each an account may have. Over it a call answers the service's own limit exception.
	Limits Limits `yaml:"limits"`
	// The record of every API call.
	Audit Audit `yaml:"audit"`
	// What one API request may cost.
	Requests Requests `yaml:"requests"`
}

// State says where the state is.
type State struct {
	// Directory, made with mode 0700 when missing. Default /var/lib/carrel for root, else $XDG_STATE_HOME/carrel or
	// ~/.local/state/carrel. It holds keys: whoever reads it is root of the account. One process at a time may use it.
	Dir string `yaml:"dir"`
}

// API is the API door.
type API struct {
	// HOST:PORT to listen on. Default 127.0.0.1:8443: only this machine reaches it. Port 0 takes a free one.
	Address string `yaml:"address"`
	// DNS names (also *.example.com) and IP addresses that clients use, besides localhost and the address itself. Default none.
	// They go into the certificates of both listeners; a name that is missing here is refused by every client.
	Names []string `yaml:"names"`
}

// Portal is the people's door.
type Portal struct {
	// HOST:PORT to listen on. Default 127.0.0.1:8444: only this machine reaches it. Port 0 takes a free one.
	Address string `yaml:"address"`
	// How often the directory is asked about each person who is signed in. Default 30s. From 1s to 1h. Whoever is disabled, deleted or has
	// another password there is signed out and loses the screen within this time.
	Recheck time.Duration `yaml:"recheck"`
	// How long people stay signed in while their directory does not answer. Default 5m. From 1s to 12h. Then they are signed out: nobody
	// can say any more that they may be.
	DirectoryGrace time.Duration `yaml:"directoryGrace"`
}

// TLS is the listeners' encryption.
type TLS struct {
	// Lowest version accepted, "1.2" or "1.3". Default "1.2". With "1.3" clients older than about 2019 cannot connect.
	MinVersion string `yaml:"minVersion"`
}

// Simulation is how long simulated drivers take.
type Simulation struct {
	// From CreateWorkspaces to AVAILABLE. Default 300ms.
	Create time.Duration `yaml:"create"`
	// From StartWorkspaces to AVAILABLE. Default 100ms.
	Start time.Duration `yaml:"start"`
	// From StopWorkspaces to STOPPED. Default 100ms.
	Stop time.Duration `yaml:"stop"`
	// From RebootWorkspaces to AVAILABLE. Default 100ms.
	Reboot time.Duration `yaml:"reboot"`
	// From TerminateWorkspaces until the WorkSpace is gone, with its scrub certificate written. Default 100ms.
	Terminate time.Duration `yaml:"terminate"`
}

// Host is this machine as a host of desktops.
type Host struct {
	// User (a name, or a number) that everything but the host role runs as when Carrel is started by root. Default: who called sudo,
	// else the user carrel, else the number 64098. What runs as this user holds the state and answers the network.
	User string `yaml:"user"`
	// Guest memory given out to desktops, in MiB. Default: three quarters of the machine's. More makes the machine swap or kill.
	MemoryMiB int64 `yaml:"memoryMiB"`
	// Memory of a desktop in MiB by compute type, as TYPE=MIB ("STANDARD=1024"). Default: AWS's figures: VALUE 2048, STANDARD 4096,
	// PERFORMANCE 8192, POWER 16384, POWERPRO 32768. A small host gives less.
	Compute []string `yaml:"compute"`
	// Accelerator: auto, kvm or tcg. Default auto: KVM where a probe guest has run, otherwise emulation, which is about ten times slower.
	Accelerator string `yaml:"accelerator"`
	// Start desktops from memory templates: true or false. Default true: after the first desktop of an image and compute type the host starts a machine of
	// the same kind for nobody, keeps its memory (about as much as the guest uses), and later desktops are copies of it that are there at once.
	// Templates go first when desktops want the memory. false: every desktop boots from its disk.
	Templates *bool `yaml:"templates"`
	// Interface by which desktops reach the outside, "auto" for that of the default route, "off" for none. Default off: desktops reach their VPC only.
	// Without root only auto, which takes pasta (package passt), and off.
	Uplink string `yaml:"uplink"`
	// IP:PORT of the name servers asked for names of the outside. Default none.
	Resolvers []string `yaml:"resolvers"`
	// Guests' locale ("en_US.UTF-8"). Default: the image's.
	Locale string `yaml:"locale"`
	// Guests' keyboard layout ("us", "fr", "de"). Default: the image's.
	Keyboard string `yaml:"keyboard"`
	// Guests' time zone ("Europe/Paris"). Default: the image's.
	TimeZone string `yaml:"timeZone"`
}

// ComputeMiB reads an entry of Compute.
func ComputeMiB(entry string) (name string, mebibytes int64, err error) {
	name, number, ok := strings.Cut(entry, "=")
	mebibytes, err = strconv.ParseInt(number, 10, 64)
	if !ok || name == "" || err != nil || mebibytes < 64 || mebibytes > 1<<20 || mebibytes%2 != 0 {
		return "", 0, fmt.Errorf("%q is not TYPE=MIB with an even number from 64 to %d", entry, 1<<20)
	}
	return name, mebibytes, nil
}

// Etcd is an external cluster.
type Etcd struct {
	// URLs of the cluster's members, "https://etcd-1.example.com:2379". Default none: the embedded etcd is used. Plain http is
	// accepted for loopback addresses only, because the state holds secrets.
	Endpoints []string `yaml:"endpoints"`
	// PEM file of the authorities that sign the members' certificates. Default: the system's.
	CAFile string `yaml:"caFile"`
	// PEM file of the client certificate. Default none. Needs keyFile.
	CertFile string `yaml:"certFile"`
	// PEM file of the client certificate's key. Default none. Needs certFile.
	KeyFile string `yaml:"keyFile"`
}

// Metrics is the listener for Prometheus.
type Metrics struct {
	// HOST:PORT to listen on, plain HTTP. Default 127.0.0.1:9464. "off" opens no listener. Port 0 takes a free one.
	Address string `yaml:"address"`
	// Accept an address that is not loopback. Default false. Then everybody who reaches it reads how the installation is used.
	AllowRemote bool `yaml:"allowRemote"`
	// Serve /debug/pprof there too. Default false. Profiles can show request data and cost processor time.
	Pprof bool `yaml:"pprof"`
}

// Log is the log's shape.
type Log struct {
	// Least severity written: debug, info, warn or error. Default info.
	Level string `yaml:"level"`
	// text for people, json for machines. Default text.
	Format string `yaml:"format"`
}

// Limits are the quotas. What clients rely on is fixed and not set here: 10 rules an IP group, 25 IP groups a directory,
// 25 WorkSpaces a call, 50 tags a resource, 2 access keys a user.
type Limits struct {
	// Take the quotas of a new AWS account as defaults for the numbers below, to test automation against them: 1 WorkSpace,
	// 100 IP groups, 50 directories, 5000 users, 300 groups, 1000 roles, 1500 policies. Default false. Numbers that are set below
	// still win.
	AWSLike bool `yaml:"awsLike"`
	// WorkSpaces, counted until they are gone. Default 100000.
	Workspaces int `yaml:"workspaces"`
	// IP access control groups. Default 100, which AWS does not raise.
	IPGroups int `yaml:"ipGroups"`
	// Directories registered with WorkSpaces. Default 1000.
	Directories int `yaml:"directories"`
	// IAM users. Default 100000.
	Users int `yaml:"users"`
	// IAM groups. Default 100000.
	Groups int `yaml:"groups"`
	// IAM roles, and as many instance profiles. Service-linked roles count, but are made all the same. Default 100000.
	Roles int `yaml:"roles"`
	// Customer managed policies. Default 100000.
	Policies int `yaml:"policies"`
}

// Audit is the audit trail.
type Audit struct {
	// Directory of the hash-chained files. Default: audit in the state directory.
	Dir string `yaml:"dir"`
	// Size in bytes at which a file is closed and the next one begun. Default 67108864 (64 MiB). At least 65536.
	MaxFileBytes int64 `yaml:"maxFileBytes"`
	// What happens to calls while the audit log cannot be written: stop, stop-all or continue. Default stop: changes are refused, reads go on while
	// 8 MiB of their records (about 7000) wait in memory. stop-all: every call waits until its record is on disk (slower), and is refused without.
	// continue: nothing is refused; what finds no room in memory is lost, logged, counted, and told of by the log itself when it can be written again.
	OnFailure string `yaml:"onFailure"`
}

// Requests bounds API requests.
type Requests struct {
	// Largest body in bytes. Default 1048576 (1 MiB). From 65536 to 67108864. Larger ones are refused before they are read.
	MaxBodyBytes int64 `yaml:"maxBodyBytes"`
	// Time to send the request's headers. Default 10s. Slower clients are disconnected.
	HeaderTimeout time.Duration `yaml:"headerTimeout"`
	// Time to send the whole request. Default 30s. Slower clients are disconnected.
	BodyTimeout time.Duration `yaml:"bodyTimeout"`
	// Time to carry a request out. Default 30s. Then the call answers a server error, which SDKs repeat.
	Deadline time.Duration `yaml:"deadline"`
	// Time a connection may stay without a request. Default 2m.
	IdleTimeout time.Duration `yaml:"idleTimeout"`
	// Calls that one principal may make of one operation: off, or aws for AWS's figures (WorkSpaces: 2 a second after a burst of 5). Default
	// off: nobody is throttled. With aws faster callers get ThrottlingException, Throttling or RequestLimitExceeded, which the AWS CLI and
	// SDKs repeat after a while. Each control node counts by itself.
	Throttle string `yaml:"throttle"`
}
