package netsvc

import (
	"context"
	"crypto/hmac"
	"crypto/sha256"
	"encoding/base64"
	"encoding/binary"
	"encoding/json"
	"errors"
	"io"
	"log"
	"net"
	"net/http"
	"net/netip"
	"sort"
	"strconv"
	"strings"
	"time"

	"carrel/internal/ident"
)

// Instance metadata, version 2 only (EC2 User Guide, "Use IMDSv2"): a PUT gives a token, and every question needs one. That keeps out requests that
// somebody talks a program in the desktop into sending, which can seldom use PUT or set a header.
const (
	metadataHost = "169.254.169.254"
	tokenPath    = "/latest/api/token"
	tokenHeader  = "X-Aws-Ec2-Metadata-Token"
	ttlHeader    = "X-Aws-Ec2-Metadata-Token-Ttl-Seconds"
	maxTokenTTL  = 21600
	// hopLimit: answers do not survive a router, so nothing that routes through a desktop gets one (EC2's default for tokens).
	hopLimit = 1

	metadataPerSecond      = 100
	metadataConnections    = 16
	metadataConnectionsAll = 512
)

// serveMetadata answers at a VPC's metadata address.
func (s *Server) serveMetadata(ctx context.Context, vpc ident.VPCID) error {
	l, err := s.listen(ctx, vpc, net.JoinHostPort(metadataHost, "80"), hopLimit)
	if err != nil {
		return err
	}
	l = &boundedListener{l, &slots{each: metadataConnections, all: metadataConnectionsAll}}
	server := &http.Server{Handler: s.metadata(vpc), ReadTimeout: 5 * time.Second, WriteTimeout: 5 * time.Second, IdleTimeout: 30 * time.Second,
		MaxHeaderBytes: 8 << 10, BaseContext: func(net.Listener) context.Context { return ctx }}
	server.ErrorLog = log.New(io.Discard, "", 0) // What a guest writes does not get into the log.
	part := func(context.Context) error { return server.Serve(l) }
	err = together(ctx, []io.Closer{server, l}, []func(context.Context) error{part})
	if errors.Is(err, http.ErrServerClosed) {
		return nil
	}
	return err
}

// metadata is the service of a VPC.
func (s *Server) metadata(vpc ident.VPCID) http.Handler {
	limit := &rate{perSecond: metadataPerSecond, burst: 2 * metadataPerSecond, now: time.Now}
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("Server", "EC2ws")
		from, err := netip.ParseAddrPort(r.RemoteAddr)
		if err != nil {
			http.Error(w, "Forbidden", http.StatusForbidden)
			return
		}
		if !limit.allow(from.Addr().Unmap()) {
			http.Error(w, "Too Many Requests", http.StatusTooManyRequests)
			return
		}
		// The fabric lets one tap send with this address. The host's own processes in the VPC are nobody.
		port, ok := s.who(vpc, from.Addr())
		if !ok {
			http.Error(w, "Not Found", http.StatusNotFound)
			return
		}
		s.serveOne(w, r, port)
	})
}

func (s *Server) serveOne(w http.ResponseWriter, r *http.Request, port Port) {
	switch {
	// A name that a web page has made to point here (DNS rebinding) is in Host.
	case r.Host != metadataHost && r.Host != metadataHost+":80":
		http.Error(w, "Bad Request", http.StatusBadRequest)
	// Proxies add it: what a proxy asks for somebody is not the desktop's question.
	case len(r.Header.Values("X-Forwarded-For")) > 0:
		http.Error(w, "Forbidden", http.StatusForbidden)
	case r.URL.Path == tokenPath && r.Method == http.MethodPut:
		s.giveToken(w, r, port)
	case r.Method != http.MethodGet && r.Method != http.MethodHead:
		w.Header().Set("Allow", "GET, HEAD, PUT")
		http.Error(w, "Method Not Allowed", http.StatusMethodNotAllowed)
	case len(r.Header.Values(tokenHeader)) != 1 || !s.tokens.valid(r.Header.Get(tokenHeader), port.NIC.InterfaceID):
		http.Error(w, "Unauthorized", http.StatusUnauthorized)
	default:
		body, ok := s.lookUp(port, r.URL.Path)
		if !ok {
			http.Error(w, "Not Found", http.StatusNotFound)
			return
		}
		w.Header().Set("Content-Type", "text/plain; charset=utf-8")
		w.Header().Set("X-Content-Type-Options", "nosniff")
		_, _ = io.WriteString(w, body)
	}
}

func (s *Server) giveToken(w http.ResponseWriter, r *http.Request, port Port) {
	values := r.Header.Values(ttlHeader)
	if len(values) != 1 {
		http.Error(w, "Bad Request", http.StatusBadRequest)
		return
	}
	seconds, err := strconv.ParseUint(values[0], 10, 32)
	if err != nil || seconds < 1 || seconds > maxTokenTTL {
		http.Error(w, "Bad Request", http.StatusBadRequest)
		return
	}
	w.Header().Set(ttlHeader, strconv.FormatUint(seconds, 10))
	w.Header().Set("Content-Type", "text/plain")
	_, _ = io.WriteString(w, s.tokens.make(port.NIC.InterfaceID, time.Duration(seconds)*time.Second))
}

// tokens makes and checks session tokens. Nothing is kept: a token is its end and a seal over it and the interface it was given to, so one that
// is carried to another desktop is worth nothing there.
type tokens struct {
	key []byte
	now func() time.Time
}

func (t *tokens) make(id ident.InterfaceID, ttl time.Duration) string {
	end := binary.BigEndian.AppendUint64(nil, uint64(t.now().Add(ttl).UnixMilli()))
	return base64.URLEncoding.EncodeToString(append(end, t.seal(id, end)...))
}

func (t *tokens) seal(id ident.InterfaceID, end []byte) []byte {
	h := hmac.New(sha256.New, t.key)
	h.Write(end)
	h.Write([]byte(id))
	return h.Sum(nil)
}

func (t *tokens) valid(token string, id ident.InterfaceID) bool {
	b, err := base64.URLEncoding.Strict().DecodeString(token)
	if err != nil || len(b) != 8+sha256.Size || !hmac.Equal(b[8:], t.seal(id, b[:8])) {
		return false
	}
	return t.now().UnixMilli() < int64(binary.BigEndian.Uint64(b[:8]))
}

// lookUp gives what is at a path. Directories list what is in them, one a line, those that have more inside with a slash.
func (s *Server) lookUp(port Port, path string) (string, bool) {
	path = strings.TrimPrefix(path, "/")
	if path == "" {
		return "latest", true
	}
	rest, ok := strings.CutPrefix(path+"/", "latest/")
	if !ok {
		return "", false
	}
	rest = strings.TrimSuffix(rest, "/")
	tree := s.tree(port)
	if v, ok := tree[rest]; ok {
		return v, true
	}
	dir := strings.TrimSuffix(rest, "/")
	if dir != "" {
		dir += "/"
	}
	names := map[string]bool{}
	for key := range tree {
		if under, ok := strings.CutPrefix(key, dir); ok {
			name, more, deeper := strings.Cut(under, "/")
			if deeper && more != "" {
				name += "/"
			}
			names[name] = true
		}
	}
	if len(names) == 0 {
		return "", false
	}
	list := make([]string, 0, len(names))
	for n := range names {
		list = append(list, n)
	}
	sort.Strings(list)
	return strings.Join(list, "\n"), true
}

// tree is all that a desktop is told: where it is and what it is called. There is no iam and no user-data.
func (s *Server) tree(p Port) map[string]string {
	g := s.describe(p)
	host := g.Hostname + "." + g.Domain
	card := "meta-data/network/interfaces/macs/" + p.NIC.MAC + "/"
	groups := make([]string, len(p.NIC.SecurityGroups))
	for i, id := range p.NIC.SecurityGroups {
		groups[i] = string(id)
	}
	t := map[string]string{
		"meta-data/instance-id":                 string(p.NIC.WorkspaceID),
		"meta-data/local-ipv4":                  p.NIC.Address,
		"meta-data/mac":                         p.NIC.MAC,
		"meta-data/hostname":                    host,
		"meta-data/local-hostname":              host,
		"meta-data/services/domain":             s.cfg.Suffix,
		"meta-data/placement/region":            s.cfg.Region,
		card + "device-number":                  "0",
		card + "interface-id":                   string(p.NIC.InterfaceID),
		card + "local-hostname":                 host,
		card + "local-ipv4s":                    p.NIC.Address,
		card + "mac":                            p.NIC.MAC,
		card + "security-group-ids":             strings.Join(groups, "\n"),
		card + "subnet-id":                      string(p.NIC.Subnet),
		card + "subnet-ipv4-cidr-block":         p.Subnet.String(),
		card + "vpc-id":                         string(p.NIC.VPC),
		card + "vpc-ipv4-cidr-block":            p.VPCCIDR.String(),
		card + "vpc-ipv4-cidr-blocks":           p.VPCCIDR.String(),
		"dynamic/instance-identity/document":    s.document(p, g),
		"meta-data/services/partition":          partition(s.cfg.Region),
		"meta-data/instance-action":             "none",
		"meta-data/instance-life-cycle":         "on-demand",
		"meta-data/placement/availability-zone": g.Zone,
	}
	if g.ZoneID != "" {
		t["meta-data/placement/availability-zone-id"] = g.ZoneID
	}
	if g.Zone == "" {
		delete(t, "meta-data/placement/availability-zone")
	}
	return t
}

// document is what a program reads that wants all at once.
func (s *Server) document(p Port, g Guest) string {
	b, err := json.MarshalIndent(map[string]string{
		"availabilityZone": g.Zone, "instanceId": string(p.NIC.WorkspaceID), "privateIp": p.NIC.Address, "region": s.cfg.Region, "version": "2017-09-30",
	}, "", "  ")
	if err != nil {
		return "" // A map of strings always has a form.
	}
	return string(b)
}

func partition(region string) string {
	switch {
	case strings.HasPrefix(region, "cn-"):
		return "aws-cn"
	case strings.HasPrefix(region, "us-gov-"):
		return "aws-us-gov"
	}
	return "aws"
}
