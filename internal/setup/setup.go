// Package setup gives a new installation its first directory and its first user, by the installation's own API with the root's key, as
// an administrator would: signed, checked and audited like every other call.
//
// It refuses to change a directory that exists: where there is one, it only says what there is. Run again after it was broken off, it goes on.
package setup

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"time"

	"carrel/internal/directory"
	"carrel/internal/durable"
	"carrel/internal/operator"
)

// Options say what is made where nothing is.
type Options struct {
	// State is the state directory of the running installation.
	State string
	// Domain is the directory's name ("corp.internal"), ShortName its NetBIOS name ("CORP").
	Domain, ShortName string
	// User is the first user's name.
	User operator.NewUser
	// Progress is told what is being done, a line each; it may be nil.
	Progress func(string)
}

// Result is what there is at the end.
type Result struct {
	API              string `json:"api"`
	Portal           string `json:"portal"`
	DirectoryID      string `json:"directoryId"`
	Domain           string `json:"domain"`
	RegistrationCode string `json:"registrationCode"`
	User             string `json:"user"`
	// PasswordFile has the user's first password, AdministratorFile that of the directory's administrator; "" when somebody has taken it away.
	PasswordFile      string `json:"passwordFile"`
	AdministratorFile string `json:"administratorFile,omitempty"`
	// BundleID is the smallest bundle, for a first WorkSpace.
	BundleID string `json:"bundleId"`
}

// patience is how long a domain controller may take, with much room for emulated and busy machines.
const patience = 10 * time.Minute

// pause is how often the API is asked whether something is done.
const pause = 500 * time.Millisecond

// Run does what is missing and gives what there is.
func Run(ctx context.Context, o Options) (Result, error) {
	ctx, cancel := context.WithTimeout(ctx, patience)
	defer cancel()
	c, err := dial(o.State)
	if err != nil {
		return Result{}, err
	}
	defer c.http.CloseIdleConnections()
	s := &setting{Options: o, client: c, door: operator.Dial(o.State)}
	if s.Progress == nil {
		s.Progress = func(string) {}
	}
	status, err := s.door.Status(ctx)
	if err != nil {
		return Result{}, err
	}
	s.result = Result{API: status.API, Portal: status.Portal, User: o.User.Name}
	for _, step := range []func(context.Context) error{s.directory, s.register, s.user, s.bundle} {
		if err := step(ctx); err != nil {
			return Result{}, err
		}
	}
	return s.result, nil
}

// setting is one run.
type setting struct {
	Options
	client *client
	door   *operator.Client
	result Result
}

// directoryDescription is what DescribeDirectories tells that is of use here.
type directoryDescription struct {
	DirectoryID string `json:"DirectoryId"`
	Name        string
	Stage       string
	StageReason string
}

func (s *setting) directories(ctx context.Context) ([]directoryDescription, error) {
	var out struct{ DirectoryDescriptions []directoryDescription }
	err := s.client.json(ctx, "ds", "DirectoryService_20150416.DescribeDirectories", struct{}{}, &out)
	return out.DirectoryDescriptions, err
}

// directory finds the first directory or makes it, and waits for it.
func (s *setting) directory(ctx context.Context) error {
	all, err := s.directories(ctx)
	if err != nil {
		return err
	}
	id := ""
	if len(all) > 0 {
		id = all[0].DirectoryID
	} else {
		s.Progress(fmt.Sprintf("making the directory %s: an Active Directory domain controller inside the VPC", s.Domain))
		if id, err = s.create(ctx); err != nil {
			return err
		}
	}
	for {
		for _, d := range all {
			if d.DirectoryID != id {
				continue
			}
			switch d.Stage {
			case "Active", "Impaired":
				s.result.DirectoryID, s.result.Domain = id, d.Name
				return s.administrator(d.Name)
			case "Failed", "Deleting", "Deleted":
				return fmt.Errorf("directory %s is %s: %s; delete it (aws ds delete-directory --directory-id %s) and run this again", id, d.Stage, d.StageReason, id)
			}
		}
		if err := wait(ctx, "directory "+id+" to be Active"); err != nil {
			return err
		}
		if all, err = s.directories(ctx); err != nil {
			return err
		}
	}
}

// create asks for the directory in the default VPC. Its administrator's password is in a file before anybody else knows it.
func (s *setting) create(ctx context.Context) (id string, err error) {
	vpc, subnets, err := s.network(ctx)
	if err != nil {
		return "", err
	}
	password, err := s.newAdministrator()
	if err != nil {
		return "", err
	}
	var out struct {
		ID string `json:"DirectoryId"`
	}
	err = s.client.json(ctx, "ds", "DirectoryService_20150416.CreateDirectory", map[string]any{
		"Name": s.Domain, "ShortName": s.ShortName, "Password": password, "Size": "Small", "VpcSettings": map[string]any{"VpcId": vpc, "SubnetIds": subnets},
	}, &out)
	var no *APIError
	if errors.As(err, &no) {
		// Refused: there is no directory that the password could be of.
		if file, wrong := s.administratorFile(s.Domain); wrong == nil {
			err = errors.Join(err, os.Remove(file))
		}
	}
	return out.ID, err
}

// network gives the default VPC and one subnet in each of two zones.
func (s *setting) network(ctx context.Context) (vpc string, subnets []string, err error) {
	var out struct {
		Subnets []struct {
			ID      string `xml:"subnetId"`
			VPC     string `xml:"vpcId"`
			Zone    string `xml:"availabilityZone"`
			Default bool   `xml:"defaultForAz"`
		} `xml:"subnetSet>item"`
	}
	if err := s.client.query(ctx, "DescribeSubnets", &out); err != nil {
		return "", nil, err
	}
	zones := map[string]bool{}
	for _, n := range out.Subnets {
		if n.Default && !zones[n.Zone] && len(subnets) < 2 {
			zones[n.Zone], vpc, subnets = true, n.VPC, append(subnets, n.ID)
		}
	}
	if len(subnets) < 2 {
		return "", nil, errors.New("there is no default VPC with subnets in two zones: make the directory with aws ds create-directory")
	}
	return vpc, subnets, nil
}

// administratorFile is where the password of a domain's administrator is.
func (s *setting) administratorFile(domain string) (string, error) {
	state, err := filepath.Abs(s.State)
	return filepath.Join(state, "passwords", domain+".administrator"), err
}

// newAdministrator draws a password and writes it down, or reads the one of an earlier try.
func (s *setting) newAdministrator() (string, error) {
	file, err := s.administratorFile(s.Domain)
	if err != nil {
		return "", err
	}
	if text, err := os.ReadFile(file); err == nil || !errors.Is(err, fs.ErrNotExist) {
		return strings.TrimSpace(string(text)), err
	}
	password, err := directory.GeneratePassword(rand.Reader)
	if err != nil {
		return "", err
	}
	return password, s.write(file, password+"\n")
}

// write makes a file that only the state's owner reads, who may be somebody else than who runs this.
func (s *setting) write(file, text string) error {
	info, err := os.Stat(s.State)
	if err != nil {
		return err
	}
	owner := info.Sys().(*syscall.Stat_t)
	dir := filepath.Dir(file)
	if err := os.Mkdir(dir, 0o700); err != nil && !errors.Is(err, fs.ErrExist) {
		return err
	}
	own := func(f *os.File) error {
		if os.Geteuid() != 0 {
			return nil
		}
		return errors.Join(os.Lchown(dir, int(owner.Uid), int(owner.Gid)), f.Chown(int(owner.Uid), int(owner.Gid)))
	}
	return durable.WriteFile(file, []byte(text), 0o600, own)
}

// administrator says where the administrator's password is, if it is there.
func (s *setting) administrator(domain string) error {
	file, err := s.administratorFile(domain)
	if err != nil {
		return err
	}
	if exists(file) {
		s.result.AdministratorFile = file
	}
	return nil
}

// register registers the directory with WorkSpaces and waits for its code.
func (s *setting) register(ctx context.Context) error {
	for asked := false; ; {
		var out struct {
			Directories []struct{ State, RegistrationCode, ErrorMessage string }
		}
		if err := s.client.json(ctx, "workspaces", "WorkspacesService.DescribeWorkspaceDirectories", map[string]any{"DirectoryIds": []string{s.result.DirectoryID}}, &out); err != nil {
			return err
		}
		state, problem := "", ""
		if len(out.Directories) > 0 {
			d := out.Directories[0]
			state, problem, s.result.RegistrationCode = d.State, d.ErrorMessage, d.RegistrationCode
		}
		switch {
		case state == "REGISTERED":
			return nil
		case state == "ERROR" && asked:
			return fmt.Errorf("directory %s cannot be registered: %s", s.result.DirectoryID, problem)
		case !asked && (state == "" || state == "ERROR"):
			asked = true
			s.Progress("registering the directory with WorkSpaces")
			if err := s.client.json(ctx, "workspaces", "WorkspacesService.RegisterWorkspaceDirectory", map[string]any{"DirectoryId": s.result.DirectoryID}, &struct{}{}); err != nil {
				return err
			}
		}
		if err := wait(ctx, "directory "+s.result.DirectoryID+" to be registered"); err != nil {
			return err
		}
	}
}

// user makes the first user unless there is one of that name who can sign in.
func (s *setting) user(ctx context.Context) error {
	s.User.Directory = s.result.DirectoryID
	var out struct{ Enabled bool }
	err := s.client.rest(ctx, "DescribeUser", s.result.DirectoryID, map[string]any{"SAMAccountName": s.User.Name}, &out)
	if err != nil && !refused(err, "ResourceNotFoundException") {
		return err
	}
	if err == nil && out.Enabled {
		state, err := filepath.Abs(s.State)
		if err != nil {
			return err
		}
		if file := filepath.Join(state, "passwords", s.result.DirectoryID, strings.ToLower(s.User.Name)); exists(file) {
			s.result.PasswordFile = file
		}
		return nil
	}
	s.Progress("making the user " + s.User.Name)
	made, err := s.door.MakeUser(ctx, s.User)
	s.result.PasswordFile = made.PasswordFile
	return err
}

func exists(file string) bool {
	_, err := os.Stat(file)
	return err == nil
}

// bundle finds the bundle of the smallest machines.
func (s *setting) bundle(ctx context.Context) error {
	var out struct {
		Bundles []struct {
			ID          string `json:"BundleId"`
			ComputeType struct{ Name string }
		}
	}
	if err := s.client.json(ctx, "workspaces", "WorkspacesService.DescribeWorkspaceBundles", map[string]any{"Owner": "AMAZON"}, &out); err != nil {
		return err
	}
	for _, b := range out.Bundles {
		if b.ComputeType.Name == "VALUE" || s.result.BundleID == "" {
			s.result.BundleID = b.ID
		}
	}
	return nil
}

// wait waits a moment before the API is asked again.
func wait(ctx context.Context, what string) error {
	t := time.NewTimer(pause)
	defer t.Stop()
	select {
	case <-t.C:
		return nil
	case <-ctx.Done():
		return fmt.Errorf("waited for %s: %w", what, ctx.Err())
	}
}
