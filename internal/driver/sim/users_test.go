package sim_test

import (
	"errors"
	"testing"

	"carrel/internal/directory"
	"carrel/internal/driver"
	"carrel/internal/ident"
)

func TestUsersAreMadeGivenPasswordsAndLogIn(t *testing.T) {
	ctx := t.Context()
	const id = ident.DirectoryID("d-90670a1b2c")
	s := open(t, t.TempDir())
	d := s.Domain()
	if _, err := d.Provision(ctx, driver.DomainSpec{DirectoryID: id, Name: "corp.example.com", Controllers: []driver.DomainController{{Address: "10.0.0.10"}}}); err != nil {
		t.Fatal(err)
	}
	login := func(name, text string) error {
		_, err := d.Authenticate(ctx, id, name, directory.NewPassword(text))
		return err
	}
	refused := func(what string, err error, want directory.Reason) {
		t.Helper()
		var login *directory.LoginError
		if !errors.As(err, &login) || login.Reason != want {
			t.Errorf("%s: %v, want %s", what, err, want)
		}
	}
	u, err := d.CreateUser(ctx, id, directory.NewUser{Name: "alan", GivenName: "Alan", Surname: "Turing"})
	if err != nil || u.Enabled || u.SID == "" || u.DisplayName != "Alan Turing" {
		t.Fatalf("%+v, %v", u, err)
	}
	if _, err := d.CreateUser(ctx, id, directory.NewUser{Name: "ALAN"}); !errors.Is(err, directory.ErrExists) {
		t.Errorf("made twice: %v", err)
	}
	refused("before a password", login("alan", "Enigma-1912"), directory.ReasonWrong)
	if err := d.SetPassword(ctx, id, "alan", directory.NewPassword("enigma")); !errors.Is(err, directory.ErrWeakPassword) {
		t.Errorf("weak: %v", err)
	}
	if err := d.SetPassword(ctx, id, "alan", directory.NewPassword("Enigma-1912")); err != nil {
		t.Fatal(err)
	}
	if err := login("Alan", "Enigma-1912"); err != nil {
		t.Errorf("right: %v", err)
	}
	refused("wrong", login("alan", "enigma-1912"), directory.ReasonWrong)
	refused("empty", login("alan", ""), directory.ReasonWrong)
	refused("nobody", login("nobody", "Enigma-1912"), directory.ReasonWrong)
	refused("without a password of its own", login("ada", "Enigma-1912"), directory.ReasonWrong)
	if err := login("", ""); err == nil {
		t.Error("nobody with nothing got in")
	}
	if _, err := d.Authenticate(ctx, "d-0000000000", "alan", directory.NewPassword("Enigma-1912")); !errors.Is(err, directory.ErrNoDirectory) {
		t.Errorf("another directory: %v", err)
	}
	page, next, err := d.ListUsers(ctx, id, "", 2)
	if err != nil || len(page) != 2 || page[0].Name != "ada" || page[1].Name != "alan" || next != "alan" {
		t.Errorf("%+v, %q, %v", page, next, err)
	}
	page, next, err = d.ListUsers(ctx, id, next, 2)
	if err != nil || len(page) != 1 || page[0].Name != "grace" || next != "" {
		t.Errorf("%+v, %q, %v", page, next, err)
	}
	if err := d.DeleteUser(ctx, id, "alan"); err != nil {
		t.Fatal(err)
	}
	refused("deleted", login("alan", "Enigma-1912"), directory.ReasonWrong)
	if err := s.Faults().Fail("domain", "authenticate", 1); err != nil {
		t.Fatal(err)
	}
	if err := login("ada", "Enigma-1912"); !errors.Is(err, directory.ErrUnavailable) {
		t.Errorf("a directory that does not answer: %v", err)
	}
}
