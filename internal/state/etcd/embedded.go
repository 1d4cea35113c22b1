package etcd

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"path/filepath"
	"runtime/debug"
	"time"

	clientv3 "go.etcd.io/etcd/client/v3"
	"go.etcd.io/etcd/server/v3/embed"
	"go.etcd.io/etcd/server/v3/etcdserver/api/v3client"
	"golang.org/x/sys/unix"

	pb "go.etcd.io/etcd/api/v3/etcdserverpb"

	"carrel/internal/state"
)

// EmbeddedConfig says where the server inside this process keeps its data.
type EmbeddedConfig struct {
	// Dir is the server's alone. It is made, with mode 0700, if it does not exist.
	Dir string
	// Quota is the largest size of the database in bytes; beyond it transactions end with state.ErrFull. 8 GiB if 0.
	Quota int64
	// Reserve is how many bytes the file system must have left for a transaction to be accepted; 256 MiB if 0. The server
	// needs it for itself: it preallocates its log in pieces of 64 MB and cannot go on after a write that failed.
	Reserve int64
	// Logger gets what the server has to say; slog's default if nil.
	Logger *slog.Logger
}

const (
	memberName     = "carrel"
	defaultQuota   = 8 << 30
	defaultReserve = 256 << 20
	// history is how long revisions are kept, and with them the way a watch can go back without reading everything again.
	history = "5m"
	// snapshotEvery is after how many transactions the log begins anew.
	snapshotEvery = 5000
	// keptFiles is how many pieces of the log and snapshots are kept beside those in use.
	keptFiles = 2
	// snapshotTimeout bounds the wait for the snapshot that an orderly end leaves.
	snapshotTimeout = 2 * time.Second
	// stopTimeout bounds the wait for the server when it is closed.
	stopTimeout = 8 * time.Second
	// peerURL is this only member's name for itself. Nothing listens there and nobody dials it.
	peerURL = "http://localhost:2380"
)

// Embedded starts an etcd server in this process that listens nowhere, on the directory of cfg, and returns once it
// serves; ctx bounds that. A *DirectoryError says what is wrong with the directory; nothing in it was changed then.
func Embedded(ctx context.Context, cfg EmbeddedConfig) (*Store, error) {
	if cfg.Quota == 0 {
		cfg.Quota = defaultQuota
	}
	if cfg.Reserve == 0 {
		cfg.Reserve = defaultReserve
	}
	if cfg.Logger == nil {
		cfg.Logger = slog.Default()
	}
	dir, err := openDirectory(cfg.Dir)
	if err != nil {
		return nil, err
	}
	s, err := dir.start(ctx, cfg)
	if err != nil {
		return nil, errors.Join(err, dir.close())
	}
	return s, nil
}

// start runs the server on a directory that has been found to be in order.
func (d *directory) start(ctx context.Context, cfg EmbeddedConfig) (*Store, error) {
	if err := d.prepare(); err != nil {
		return nil, err
	}
	s := newStore(nil, defaultPrefix)
	s.page = embeddedPage
	failed := func(err error) { s.end(fmt.Errorf("the etcd server has failed: %w", err)) }
	server, err := d.launch(ctx, cfg, failed)
	if err != nil {
		return nil, err
	}
	s.client = v3client.New(server.Server)
	s.room = func() error { return d.room(cfg.Reserve) }
	s.pages = func() error { return dropPages(server.Server.Backend(), databasePath(d.path)) }
	s.shut = func() error {
		if errors.Is(s.Err(), errClosed) {
			leaveSnapshot(s.client, server)
		}
		err := errors.Join(closeClient(s.client), stopServer(server))
		return errors.Join(err, d.close())
	}
	// What FORMAT says is in the database must be in its file first.
	server.Server.Backend().ForceCommit()
	if err := d.adopt(uint64(server.Server.MemberID()), uint64(server.Server.Cluster().ID())); err != nil {
		return nil, errors.Join(err, closeClient(s.client), stopServer(server))
	}
	if err := s.makeRoom(ctx, server); err != nil {
		return nil, errors.Join(err, closeClient(s.client), stopServer(server))
	}
	return s, nil
}

// closeClient closes a client, whose context has always ended by then.
func closeClient(c *clientv3.Client) error {
	if err := c.Close(); !errors.Is(err, context.Canceled) {
		return err
	}
	return nil
}

// launch starts the server and waits until it is ready. Starting means reading files that anything may have happened to:
// it is done in a goroutine whose panics, faults in mapped memory and fatal messages become errors.
func (d *directory) launch(ctx context.Context, cfg EmbeddedConfig, failed func(error)) (*embed.Etcd, error) {
	fatal := make(chan error, 16)
	logger := newZap(cfg.Logger, func(err error) {
		failed(err)
		select {
		case fatal <- err:
		default:
		}
	})
	type outcome struct {
		server *embed.Etcd
		err    error
	}
	result := make(chan outcome, 1)
	go func() {
		out := outcome{err: errors.New("the server ended while starting")}
		defer func() {
			if p := recover(); p != nil {
				out.err = fmt.Errorf("%v", p)
			}
			result <- out
		}()
		debug.SetPanicOnFault(true)
		c := d.serverConfig(cfg)
		c.ZapLoggerBuilder = embed.NewZapLoggerBuilder(logger)
		out.server, out.err = embed.StartEtcd(c)
	}()
	damaged := func(err error) error {
		select {
		case why := <-fatal:
			err = why
		default:
		}
		return &DirectoryError{d.path, fmt.Sprintf("the database cannot be opened: %v", err)}
	}
	var server *embed.Etcd
	select {
	case out := <-result:
		if out.err != nil {
			return nil, damaged(out.err)
		}
		server = out.server
	case <-ctx.Done():
		// The goroutine is left behind: there is no way to stop a server that is starting.
		return nil, damaged(unavailable(context.Cause(ctx)))
	}
	select {
	case <-server.Server.ReadyNotify():
		return server, nil
	case err := <-fatal:
		return nil, errors.Join(damaged(err), stopServer(server))
	case <-ctx.Done():
		return nil, errors.Join(unavailable(context.Cause(ctx)), stopServer(server))
	}
}

func (d *directory) serverConfig(cfg EmbeddedConfig) *embed.Config {
	c := embed.NewConfig()
	c.Name, c.Dir = memberName, d.path
	c.InitialCluster = memberName + "=" + peerURL
	c.InitialClusterToken = d.format.Token
	c.ListenPeerUrls, c.ListenClientUrls = nil, nil
	c.EnableGRPCGateway = false
	c.QuotaBackendBytes = cfg.Quota
	c.MaxTxnOps, c.MaxRequestBytes = maxTxnOps, maxRequestBytes
	c.AutoCompactionMode, c.AutoCompactionRetention = embed.CompactorModePeriodic, history
	// Each start reads the whole log.
	c.MaxWalFiles, c.MaxSnapFiles = keptFiles, keptFiles
	// The transactions since the last snapshot are kept in memory, and more for members that lag behind: there are none.
	c.SnapshotCount, c.SnapshotCatchUpEntries = snapshotEvery, 100
	// One member elects itself after up to an election time: the shorter it is, the sooner it serves.
	c.TickMs, c.ElectionMs = 10, 50
	// A slow disk is the machine's affair, and shows in the latency of transactions.
	c.WarningApplyDuration, c.WarningUnaryRequestDuration = time.Second, time.Second
	c.LogLevel = "info"
	return c
}

// leaveSnapshot makes the server begin its log anew before it is stopped in order. What a start finds in the log it reads twice and keeps in
// memory until a hundred transactions later; after a restore that is everything there is. It is no loss when it does not succeed.
func leaveSnapshot(client *clientv3.Client, server *embed.Etcd) {
	ctx, cancel := context.WithTimeout(context.Background(), snapshotTimeout)
	defer cancel()
	server.Server.ForceSnapshot()
	// The snapshot is taken with the next entry of the log. This one changes nothing.
	_, _ = client.AlarmList(ctx)
}

// stopServer ends the server. One that has failed may never end: it is not waited for longer than stopTimeout.
func stopServer(server *embed.Etcd) error {
	ended := make(chan struct{})
	go func() {
		defer close(ended)
		server.Close()
	}()
	timeout := time.NewTimer(stopTimeout)
	defer timeout.Stop()
	select {
	case <-ended:
		return nil
	case <-timeout.C:
		return errors.New("state/etcd: the server did not stop in time")
	}
}

// room is state.ErrFull when less than reserve is left on the file system.
func (d *directory) room(reserve int64) error {
	var fs unix.Statfs_t
	if err := unix.Statfs(d.path, &fs); err != nil {
		return unavailable(err)
	}
	if left := int64(fs.Bavail) * fs.Bsize; left < reserve {
		return fmt.Errorf("%w: %d MiB left on the file system of %s, %d MiB are kept in reserve", state.ErrFull, left>>20, d.path, reserve>>20)
	}
	return nil
}

// makeRoom lifts the alarm of a server that had reached its quota, if dropping the history brings it below it again.
func (s *Store) makeRoom(ctx context.Context, server *embed.Etcd) error {
	alarms, err := s.client.AlarmList(ctx)
	if err != nil {
		return failure(ctx, err)
	}
	full := false
	for _, a := range alarms.Alarms {
		full = full || a.Alarm == pb.AlarmType_NOSPACE
	}
	if !full {
		return nil
	}
	now, err := s.client.Get(ctx, s.prefix, clientv3.WithCountOnly())
	if err != nil {
		return failure(ctx, err)
	}
	if _, err := s.client.Compact(ctx, now.Header.Revision, clientv3.WithCompactPhysical()); err != nil {
		return failure(ctx, err)
	}
	if err := server.Server.Backend().Defrag(); err != nil {
		return fmt.Errorf("state/etcd: %w", err)
	}
	if _, err := s.client.AlarmDisarm(ctx, &clientv3.AlarmMember{}); err != nil {
		return failure(ctx, err)
	}
	return nil
}

// databasePath is where etcd keeps its database below a data directory; logPath its write-ahead log.
func databasePath(dir string) string { return filepath.Join(dir, "member", "snap", "db") }
func logPath(dir string) string      { return filepath.Join(dir, "member", "wal") }
