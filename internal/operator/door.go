package operator

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"time"
)

// Status says what runs.
type Status struct {
	Version     string   `json:"version"`
	PID         int      `json:"pid"`
	AccountID   string   `json:"accountId"`
	Region      string   `json:"region"`
	API         string   `json:"api"`
	Portal      string   `json:"portal"`
	Metrics     string   `json:"metrics,omitempty"`
	Simulated   bool     `json:"simulated"`
	ClockOffset string   `json:"clockOffset,omitempty"`
	Directories []string `json:"directories"`
	Workspaces  int      `json:"workspaces"`
}

// Fault is a failure that a simulated driver has been told to have.
type Fault struct {
	Driver string `json:"driver"`
	Step   string `json:"step"`
	// Times is how often it still fails; 0: always, and permanently.
	Times int `json:"times"`
}

// Simulation is what can be done to simulated drivers; nil on a real installation.
type Simulation interface {
	// Advance moves the clock forward.
	Advance(by time.Duration) error
	// Fail makes a driver's step fail; an unknown name is an error that lists the known ones.
	Fail(f Fault) error
	// Clear ends all faults.
	Clear()
	// Faults lists those still to come.
	Faults() []Fault
	// AddUser adds a user to a simulated directory ("" : the only one there is).
	AddUser(directory, name string) error
}

// NewUser is a user to be made in a directory.
type NewUser struct {
	// Directory is an id; "": the only directory there is.
	Directory string `json:"directory"`
	Name      string `json:"name"`
	GivenName string `json:"givenName,omitempty"`
	Surname   string `json:"surname,omitempty"`
	Email     string `json:"email,omitempty"`
}

// MadeUser is a user that was made.
type MadeUser struct {
	Directory string `json:"directory"`
	Name      string `json:"name"`
	SID       string `json:"sid"`
	// PasswordFile is where the first password was written, which nobody is told otherwise.
	PasswordFile string `json:"passwordFile"`
}

// Door answers the operator.
type Door struct {
	Status     func() Status
	Backup     func(w io.Writer) error
	Simulation Simulation
	// AddUser makes a user with a random first password, in a simulated directory or a real one.
	AddUser func(ctx context.Context, u NewUser) (MadeUser, error)
	Access  Access
}

// Handler is the door's route table.
func (d *Door) Handler() http.Handler {
	mux := http.NewServeMux()
	mux.HandleFunc("GET /v1/status", func(w http.ResponseWriter, _ *http.Request) { reply(w, d.Status()) })
	mux.HandleFunc("GET /v1/backup", d.backup)
	mux.HandleFunc("POST /v1/simulate/advance", simulate(d, func(s Simulation, in struct{ By string }) (any, error) {
		by, err := time.ParseDuration(in.By)
		if err == nil && by <= 0 {
			err = errors.New("the clock only goes forward: give a positive duration such as 20m")
		}
		if err != nil {
			return nil, err
		}
		if err := s.Advance(by); err != nil {
			return nil, err
		}
		return d.Status(), nil
	}))
	mux.HandleFunc("POST /v1/simulate/fail", simulate(d, func(s Simulation, in Fault) (any, error) { return in, s.Fail(in) }))
	mux.HandleFunc("POST /v1/simulate/clear", simulate(d, func(s Simulation, _ struct{}) (any, error) {
		s.Clear()
		return struct{}{}, nil
	}))
	mux.HandleFunc("POST /v1/simulate/user", simulate(d, func(s Simulation, in struct{ Directory, Name string }) (any, error) {
		return in, s.AddUser(in.Directory, in.Name)
	}))
	mux.HandleFunc("POST /v1/user", func(w http.ResponseWriter, r *http.Request) { answer(w, r, d.AddUser) })
	d.accessRoutes(mux)
	mux.HandleFunc("GET /v1/simulate/faults", func(w http.ResponseWriter, _ *http.Request) {
		if d.Simulation == nil {
			refuse(w, http.StatusConflict, errNotSimulated)
			return
		}
		reply(w, d.Simulation.Faults())
	})
	return mux
}

var errNotSimulated = errors.New("this installation is not simulated: start one with carrel serve --simulate")

func simulate[I any](d *Door, do func(Simulation, I) (any, error)) http.HandlerFunc {
	return func(w http.ResponseWriter, r *http.Request) {
		if d.Simulation == nil {
			refuse(w, http.StatusConflict, errNotSimulated)
			return
		}
		in, err := read[I](r)
		if err != nil {
			refuse(w, http.StatusBadRequest, err)
			return
		}
		out, err := do(d.Simulation, in)
		if err != nil {
			refuse(w, http.StatusBadRequest, err)
			return
		}
		reply(w, out)
	}
}

// read decodes a request strictly.
func read[I any](r *http.Request) (in I, err error) {
	dec := json.NewDecoder(io.LimitReader(r.Body, 64<<10))
	dec.DisallowUnknownFields()
	err = dec.Decode(&in)
	if _, end := dec.Token(); err == nil && !errors.Is(end, io.EOF) {
		err = errors.New("there is more than one document in the request")
	}
	if err != nil {
		return in, fmt.Errorf("operator request: %w", err)
	}
	return in, nil
}

// backup streams; an error after the first byte breaks the connection, so that a cut file never looks whole.
func (d *Door) backup(w http.ResponseWriter, _ *http.Request) {
	w.Header().Set("Content-Type", "application/x-ndjson")
	if err := d.Backup(w); err != nil {
		panic(http.ErrAbortHandler)
	}
}

func reply(w http.ResponseWriter, v any) {
	w.Header().Set("Content-Type", "application/json")
	_ = json.NewEncoder(w).Encode(v)
}

func refuse(w http.ResponseWriter, status int, err error) {
	w.Header().Set("Content-Type", "application/json")
	w.WriteHeader(status)
	_ = json.NewEncoder(w).Encode(map[string]string{"error": err.Error()})
}
