// Package etcd is a state.Store in etcd: in a server inside this process (Embedded), or in a cluster reached over mutual TLS
// (External). Both are the same Store code over the same key layout, <prefix>/<table>/<id>; a state.Revision is etcd's.
//
// It refuses to listen on the network, to touch a directory it did not make, and to guess about one that is damaged.
package etcd

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"sync"

	"go.etcd.io/etcd/api/v3/mvccpb"
	"go.etcd.io/etcd/api/v3/v3rpc/rpctypes"
	clientv3 "go.etcd.io/etcd/client/v3"

	"carrel/internal/state"
)

const (
	// listPage is how many items one request of List asks a cluster for: a page of 1 KiB records is some 5 MiB.
	listPage = 5000
	// embeddedPage is the same of the embedded server. For every page the server walks all keys that are left, so few pages are
	// wanted; but a page is in memory as a whole.
	embeddedPage = 16_000
	// maxTxnOps and maxRequestBytes bound one transaction of the embedded server. An external cluster has its own bounds
	// (128 operations and 1.5 MiB unless its --max-txn-ops and --max-request-bytes say otherwise).
	maxTxnOps       = 8192
	maxRequestBytes = 16 << 20
)

// Store is a state.Store in etcd.
type Store struct {
	client *clientv3.Client
	prefix string
	// page is how many items one request of List asks for.
	page int64
	// room, where set, is asked before every transaction that writes whether there is space for it.
	room func() error
	// pages, where set, gives the mapped pages of the server's database back.
	pages func() error
	// shut ends what the Store runs on, once.
	shut func() error

	// alive ends when the Store is closed or its server has failed; its cause says which.
	alive context.Context
	end   context.CancelCauseFunc

	mu     sync.Mutex
	closed bool
	calls  sync.WaitGroup
}

func newStore(client *clientv3.Client, prefix string) *Store {
	s := &Store{client: client, prefix: strings.TrimSuffix(prefix, "/") + "/", page: listPage}
	s.alive, s.end = context.WithCancelCause(context.Background())
	return s
}

var errClosed = errors.New("the store is closed")

// begin registers a call, whose context ends with the caller's, or with the Store. done must be called.
func (s *Store) begin(ctx context.Context) (_ context.Context, done func(), err error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if err := context.Cause(s.alive); err != nil {
		return nil, nil, unavailable(err)
	}
	s.calls.Add(1)
	ctx, cancel := context.WithCancelCause(ctx)
	stop := context.AfterFunc(s.alive, func() { cancel(context.Cause(s.alive)) })
	return ctx, func() {
		stop()
		cancel(nil)
		s.calls.Done()
	}, nil
}

// Failed is closed when the Store can no longer work: it was closed, or its embedded server has failed for a reason that
// only a restart of the process cures (a write to the disk that did not succeed). Err then says why.
func (s *Store) Failed() <-chan struct{} { return s.alive.Done() }

// Err is why Failed is closed, nil while it is not.
func (s *Store) Err() error { return context.Cause(s.alive) }

// Close ends all calls, and the server if it is this process's.
func (s *Store) Close() error {
	s.mu.Lock()
	again := s.closed
	s.closed = true
	s.end(errClosed)
	s.mu.Unlock()
	if again {
		return nil
	}
	s.calls.Wait()
	return s.shut()
}

func (s *Store) key(k state.Key) string { return s.prefix + string(k.Table) + "/" + k.ID }

func (s *Store) parse(key []byte) (state.Key, error) {
	rest, ok := strings.CutPrefix(string(key), s.prefix)
	table, id, slash := strings.Cut(rest, "/")
	if !ok || !slash || table == "" || id == "" {
		return state.Key{}, fmt.Errorf("state/etcd: key %q is not carrel's", key)
	}
	return state.Key{Table: state.Table(table), ID: id}, nil
}

func (s *Store) item(kv *mvccpb.KeyValue) (state.Item, error) {
	k, err := s.parse(kv.Key)
	return state.Item{Key: k, Value: kv.Value, Revision: state.Revision(kv.ModRevision)}, err
}

// List reads everything below the prefix, in pages that are all as of the first one's revision.
func (s *Store) List(ctx context.Context) ([]state.Item, state.Revision, error) {
	for {
		var items []state.Item
		rev, err := s.ListPages(ctx, func(page []state.Item) error {
			items = append(items, page...)
			return nil
		})
		if errors.Is(err, state.ErrCompacted) {
			continue // took longer than revisions are kept: from the start
		}
		return items, rev, err
	}
}

// ListPages is state.PageLister's.
func (s *Store) ListPages(ctx context.Context, fn func([]state.Item) error) (state.Revision, error) {
	ctx, done, err := s.begin(ctx)
	if err != nil {
		return 0, err
	}
	defer done()
	var rev int64
	from, end := s.prefix, clientv3.GetPrefixRangeEnd(s.prefix)
	for {
		opts := []clientv3.OpOption{clientv3.WithRange(end), clientv3.WithLimit(s.page)}
		if rev != 0 {
			opts = append(opts, clientv3.WithRev(rev))
		}
		resp, err := s.client.Get(ctx, from, opts...)
		if errors.Is(err, rpctypes.ErrCompacted) {
			return 0, state.ErrCompacted
		}
		if err != nil {
			return 0, failure(ctx, err)
		}
		if rev == 0 {
			rev = resp.Header.Revision
		}
		if len(resp.Kvs) == 0 {
			return state.Revision(rev), nil
		}
		from = string(resp.Kvs[len(resp.Kvs)-1].Key) + "\x00"
		page := make([]state.Item, len(resp.Kvs))
		for i, kv := range resp.Kvs {
			if page[i], err = s.item(kv); err != nil {
				return 0, err
			}
		}
		more := resp.More
		resp = nil // fn may take long, and needs the page only
		if err := fn(page); err != nil {
			return 0, err
		}
		if !more {
			return state.Revision(rev), nil
		}
	}
}

// Transact commits txn as one etcd transaction.
func (s *Store) Transact(ctx context.Context, txn state.Txn) (state.Revision, error) {
	if err := txn.Validate(); err != nil {
		return 0, err
	}
	if s.room != nil && len(txn.Puts) > 0 {
		if err := s.room(); err != nil {
			return 0, err
		}
	}
	ctx, done, err := s.begin(ctx)
	if err != nil {
		return 0, err
	}
	defer done()
	ops := make([]clientv3.Op, 0, len(txn.Puts)+len(txn.Deletes))
	for _, w := range txn.Puts {
		ops = append(ops, clientv3.OpPut(s.key(w.Key), string(w.Value)))
	}
	for _, k := range txn.Deletes {
		ops = append(ops, clientv3.OpDelete(s.key(k)))
	}
	resp, err := s.client.Txn(ctx).If(s.compares(txn.Checks)...).Then(ops...).Commit()
	switch {
	case err != nil:
		return 0, failure(ctx, err)
	case !resp.Succeeded:
		return 0, state.ErrConflict
	}
	return state.Revision(resp.Header.Revision), nil
}

func (s *Store) compares(checks []state.Check) []clientv3.Cmp {
	cmps := make([]clientv3.Cmp, 0, len(checks))
	for _, c := range checks {
		rev := clientv3.ModRevision(s.key(c.Key))
		if c.Prefix {
			// An empty range compares as one key with revision 0, so it holds.
			cmps = append(cmps, clientv3.Compare(rev, "<", int64(c.Revision)+1).WithPrefix())
			continue
		}
		cmps = append(cmps, clientv3.Compare(rev, "=", int64(c.Revision)))
	}
	return cmps
}

// Watch follows the prefix. etcd never divides a transaction between two answers (fragmentation is not asked for), but
// one answer may hold many transactions.
func (s *Store) Watch(ctx context.Context, from state.Revision, fn func(state.Event)) error {
	caller := ctx
	ctx, done, err := s.begin(ctx)
	if err != nil {
		return err
	}
	defer done()
	// Without a leader a member would go on showing an old state: better to be told.
	watch := s.client.Watch(clientv3.WithRequireLeader(ctx), s.prefix, clientv3.WithPrefix(), clientv3.WithRev(int64(from)+1))
	for resp := range watch {
		if resp.CompactRevision != 0 {
			return state.ErrCompacted
		}
		if err := resp.Err(); err != nil {
			return watchEnd(caller, ctx, err)
		}
		if err := s.deliver(ctx, resp.Events, fn); err != nil {
			return watchEnd(caller, ctx, err)
		}
	}
	return watchEnd(caller, ctx, errors.New("the watch was ended by the server"))
}

// deliver calls fn for every revision among events.
func (s *Store) deliver(ctx context.Context, events []*clientv3.Event, fn func(state.Event)) error {
	for len(events) > 0 {
		rev := events[0].Kv.ModRevision
		e := state.Event{Revision: state.Revision(rev)}
		for len(events) > 0 && events[0].Kv.ModRevision == rev {
			it, err := s.item(events[0].Kv)
			if err != nil {
				return err
			}
			if events[0].Type == mvccpb.Event_DELETE {
				e.Deletes = append(e.Deletes, it.Key)
			} else {
				e.Puts = append(e.Puts, it)
			}
			events = events[1:]
		}
		if ctx.Err() != nil {
			return ctx.Err()
		}
		fn(e)
	}
	return nil
}

// watchEnd is the error of a watch: the caller's own, if its context has ended.
func watchEnd(caller, ctx context.Context, err error) error {
	if caller.Err() != nil {
		return caller.Err()
	}
	return failure(ctx, err)
}

// failure is the state error for etcd's.
func failure(ctx context.Context, err error) error {
	if ctx.Err() != nil {
		return unavailable(context.Cause(ctx))
	}
	switch code := rpctypes.Error(err); {
	case errors.Is(code, rpctypes.ErrNoSpace):
		return fmt.Errorf("%w: %w", state.ErrFull, err)
	case errors.Is(code, rpctypes.ErrTooManyOps), errors.Is(code, rpctypes.ErrRequestTooLarge):
		// Nothing was written, and trying again is of no use.
		return fmt.Errorf("state/etcd: the transaction is too large: %w", err)
	}
	return unavailable(err)
}

func unavailable(err error) error { return fmt.Errorf("%w: %w", state.ErrUnavailable, err) }
