package front

import (
	"context"
	"errors"
	"io"
	"net/http"
	"strings"

	"carrel/internal/awserr"
	"carrel/internal/awsproto"
)

// read takes the body in, bounded, and the target as it was on the wire: the signature covers those bytes and no normalised form of them.
func (d *Door) read(_ context.Context, x *exchange) *awserr.Error {
	r := x.req
	path, query, _ := strings.Cut(r.RequestURI, "?")
	if !strings.HasPrefix(path, "/") {
		// An absolute-form target names a second host beside the Host header; which one was meant is not ours to guess (SIG-11).
		return awserr.New(awserr.Serialization, "The request target must begin with a slash.")
	}
	x.wire = awsproto.Request{Method: r.Method, Path: path, RawQuery: query, Header: r.Header}
	if r.Method != http.MethodPost && r.Method != http.MethodGet {
		return awserr.New(awserr.UnknownOperation, "The method %s is not served; use POST.", r.Method).WithStatus(http.StatusMethodNotAllowed)
	}
	if e := r.Header.Get("Content-Encoding"); e != "" && e != "identity" {
		// A compressed body is a way to make a small request a large one, and no AWS SDK sends one here (SIG-5).
		return awserr.New(awserr.Serialization, "Content-Encoding %q is not accepted.", e).WithStatus(http.StatusUnsupportedMediaType)
	}
	if r.ContentLength > d.MaxBody {
		return tooLarge(d.MaxBody)
	}
	body, err := d.body(r)
	if err != nil {
		if errors.Is(err, context.DeadlineExceeded) {
			return awserr.New(awserr.Serialization, "The request body did not arrive in time.").WithStatus(http.StatusRequestTimeout)
		}
		return awserr.New(awserr.Serialization, "The request body could not be read.")
	}
	if int64(len(body)) > d.MaxBody {
		return tooLarge(d.MaxBody)
	}
	if len(r.Trailer) > 0 {
		// Trailers come after the bytes the signature covers.
		return awserr.New(awserr.Serialization, "Trailers are not accepted.")
	}
	x.wire.Body = body
	return nil
}

// smallBody is what a client may have us set aside on its word alone.
const smallBody = 4 << 10

// body reads the body, and no more of it than one byte too many.
func (d *Door) body(r *http.Request) ([]byte, error) {
	if n := r.ContentLength; n > 0 && n <= smallBody {
		// net/http ends the body at its length, so there is nothing behind it to look for.
		b := make([]byte, n)
		_, err := io.ReadFull(r.Body, b)
		return b, err
	}
	return io.ReadAll(io.LimitReader(r.Body, d.MaxBody+1))
}

func tooLarge(limit int64) *awserr.Error {
	return awserr.New(awserr.RequestTooLarge, "The request body is larger than %d bytes.", limit)
}
