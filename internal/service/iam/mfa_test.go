package iam

import (
	"bytes"
	"fmt"
	"image/png"
	"strings"
	"testing"
	"time"

	"carrel/internal/api/iam"
	"carrel/internal/api/shape"
	"carrel/internal/factor"
	"carrel/internal/service"
	"carrel/internal/state"
	"carrel/internal/totp"
)

// device makes a virtual device and gives its serial number and its seed.
func (w *world) device(name string) (serial string, seed []byte) {
	w.t.Helper()
	out, err := w.CreateVirtualMFADevice(w.ctx, service.Call{}, &iam.CreateVirtualMFADeviceInput{VirtualMFADeviceName: &name})
	if err != nil {
		w.t.Fatal(err)
	}
	seed, err = totp.Seed(string(out.VirtualMFADevice.Base32StringSeed))
	if err != nil {
		w.t.Fatal(err)
	}
	return *out.VirtualMFADevice.SerialNumber, seed
}

func (w *world) enable(call service.Call, name *string, serial string, seed []byte, at time.Time) error {
	step := totp.Step(at)
	_, err := w.EnableMFADevice(w.ctx, call, &iam.EnableMFADeviceInput{UserName: name, SerialNumber: &serial,
		AuthenticationCode1: shape.Ptr(totp.Code(seed, step-1)), AuthenticationCode2: shape.Ptr(totp.Code(seed, step))})
	return err
}

func TestAVirtualDeviceIsMade(t *testing.T) {
	w, _ := openAt(t)
	out, err := w.CreateVirtualMFADevice(w.ctx, service.Call{}, &iam.CreateVirtualMFADeviceInput{VirtualMFADeviceName: shape.Ptr("phone"), Path: shape.Ptr("/ops/"), Tags: tags("b=2", "a=1")})
	if err != nil {
		t.Fatal(err)
	}
	d := out.VirtualMFADevice
	if *d.SerialNumber != "arn:aws:iam::123456789012:mfa/ops/phone" || len(d.Base32StringSeed) != 64 || show(d.Tags) != "a=1 b=2" || d.User != nil || d.EnableDate != nil {
		t.Errorf("%+v", d)
	}
	t.Run("the QR code is a picture with a border of four modules and three corners", func(t *testing.T) {
		img, err := png.Decode(bytes.NewReader(d.QRCodePNG))
		if err != nil {
			t.Fatal(err)
		}
		size := img.Bounds().Dx()/qrScale - 8
		if img.Bounds().Dx() != img.Bounds().Dy() || size < 41 || (size-17)%4 != 0 {
			t.Fatalf("%v: %d modules", img.Bounds(), size)
		}
		dark := func(x, y int) bool {
			r, _, _, _ := img.At((x+4)*qrScale+qrScale/2, (y+4)*qrScale+qrScale/2).RGBA()
			return r < 0x8000
		}
		for _, corner := range [][2]int{{0, 0}, {size - 7, 0}, {0, size - 7}} {
			for x := range 7 {
				for y := range 7 {
					ring := max(abs(x-3), abs(y-3))
					if dark(corner[0]+x, corner[1]+y) != (ring != 2) {
						t.Fatalf("no finder pattern at %v", corner)
					}
				}
			}
		}
		for x := -4; x < size+4; x++ {
			if dark(x, -1) || dark(-1, x) || dark(x, size) || dark(size, x) {
				t.Fatal("no border")
			}
		}
	})
	t.Run("the seed is shown once, and is not printed", func(t *testing.T) {
		rec, _ := state.Get(w.DB.Snapshot(), state.MFADevices, *d.SerialNumber)
		if text := fmt.Sprintf("%+v", rec); strings.Contains(text, string(d.Base32StringSeed)) {
			t.Error(text)
		}
		list, err := w.ListVirtualMFADevices(w.ctx, service.Call{}, &iam.ListVirtualMFADevicesInput{})
		if err != nil || len(list.VirtualMFADevices) != 1 || list.VirtualMFADevices[0].Base32StringSeed != nil || list.VirtualMFADevices[0].QRCodePNG != nil {
			t.Errorf("%+v, %v", list, err)
		}
	})
	t.Run("two devices have two seeds", func(t *testing.T) {
		_, one := w.device("one")
		_, two := w.device("two")
		if bytes.Equal(one, two) {
			t.Error("the same")
		}
	})
}

func abs(n int) int { return max(n, -n) }

func TestADeviceIsEnabledUsedAndTakenAway(t *testing.T) {
	w, clk := openAt(t)
	ada := w.user("ada")
	serial, seed := w.device("phone")
	if err := w.enable(service.Call{}, &ada.Name, serial, seed, clk.now); err != nil {
		t.Fatal(err)
	}
	list, err := w.ListMFADevices(w.ctx, w.by(ada), &iam.ListMFADevicesInput{})
	if err != nil || len(list.MFADevices) != 1 || *list.MFADevices[0].SerialNumber != serial || *list.MFADevices[0].UserName != "ada" || !list.MFADevices[0].EnableDate.Equal(clk.now) {
		t.Errorf("%+v, %v", list, err)
	}
	got, err := w.GetMFADevice(w.ctx, service.Call{}, &iam.GetMFADeviceInput{SerialNumber: &serial, UserName: &ada.Name})
	if err != nil || *got.UserName != "ada" || *got.SerialNumber != serial || !got.EnableDate.Equal(clk.now) {
		t.Errorf("%+v, %v", got, err)
	}
	virtual, err := w.ListVirtualMFADevices(w.ctx, service.Call{}, &iam.ListVirtualMFADevicesInput{AssignmentStatus: shape.Ptr(iam.AssignmentStatusTypeAssigned)})
	if err != nil || len(virtual.VirtualMFADevices) != 1 || *virtual.VirtualMFADevices[0].User.UserName != "ada" || !virtual.VirtualMFADevices[0].EnableDate.Equal(clk.now) {
		t.Errorf("%+v, %v", virtual, err)
	}
	t.Run("MFA-3 the codes that enabled it are taken, the next one is good once", func(t *testing.T) {
		if err := factor.Take(w.ctx, w.DB, string(ada.ID), serial, totp.Code(seed, totp.Step(clk.now))); err == nil {
			t.Error("a code of enabling was taken again")
		}
		clk.now = clk.now.Add(totp.Period)
		code := totp.Code(seed, totp.Step(clk.now))
		if err := factor.Take(w.ctx, w.DB, string(ada.ID), serial, code); err != nil {
			t.Error(err)
		}
		if err := factor.Take(w.ctx, w.DB, string(ada.ID), serial, code); err == nil {
			t.Error("taken twice")
		}
	})
	t.Run("its user is not deleted", func(t *testing.T) {
		_, err := w.DeleteUser(w.ctx, service.Call{}, &iam.DeleteUserInput{UserName: &ada.Name})
		refused(t, err, "DeleteConflict", "Cannot delete entity, must delete MFA device first.")
	})
	t.Run("it is not deleted while it is somebody's", func(t *testing.T) {
		_, err := w.DeleteVirtualMFADevice(w.ctx, service.Call{}, &iam.DeleteVirtualMFADeviceInput{SerialNumber: &serial})
		refused(t, err, "DeleteConflict", "MFA VirtualDevice in use. Must deactivate first.")
	})
	t.Run("it is resynchronised", func(t *testing.T) {
		step := totp.Step(clk.now) + 200
		in := &iam.ResyncMFADeviceInput{UserName: &ada.Name, SerialNumber: &serial, AuthenticationCode1: shape.Ptr(totp.Code(seed, step)), AuthenticationCode2: shape.Ptr(totp.Code(seed, step+1))}
		if _, err := w.ResyncMFADevice(w.ctx, service.Call{}, in); err != nil {
			t.Fatal(err)
		}
		_, err := w.ResyncMFADevice(w.ctx, service.Call{}, in)
		refused(t, err, "InvalidAuthenticationCode", "Authentication code for device is not valid.")
	})
	if _, err := w.DeactivateMFADevice(w.ctx, service.Call{}, &iam.DeactivateMFADeviceInput{UserName: &ada.Name, SerialNumber: &serial}); err != nil {
		t.Fatal(err)
	}
	virtual, err = w.ListVirtualMFADevices(w.ctx, service.Call{}, &iam.ListVirtualMFADevicesInput{AssignmentStatus: shape.Ptr(iam.AssignmentStatusTypeUnassigned)})
	if err != nil || len(virtual.VirtualMFADevices) != 1 || virtual.VirtualMFADevices[0].User != nil || virtual.VirtualMFADevices[0].EnableDate != nil {
		t.Errorf("%+v, %v", virtual, err)
	}
	if err := factor.Take(w.ctx, w.DB, string(ada.ID), serial, totp.Code(seed, totp.Step(clk.now)+202)); err == nil {
		t.Error("a code of a device that was taken away is good")
	}
	if _, err := w.DeleteVirtualMFADevice(w.ctx, service.Call{}, &iam.DeleteVirtualMFADeviceInput{SerialNumber: &serial}); err != nil {
		t.Error(err)
	}
	if _, err := w.DeleteUser(w.ctx, service.Call{}, &iam.DeleteUserInput{UserName: &ada.Name}); err != nil {
		t.Error(err)
	}
}

func TestTheRootHasDevicesToo(t *testing.T) {
	w, clk := openAt(t)
	serial, seed := w.device("root-account-mfa-device")
	root := w.by(nil)
	if err := w.enable(root, shape.Ptr(account), serial, seed, clk.now); err != nil {
		t.Fatal(err)
	}
	list, err := w.ListMFADevices(w.ctx, root, &iam.ListMFADevicesInput{})
	if err != nil || len(list.MFADevices) != 1 || *list.MFADevices[0].UserName != account {
		t.Errorf("%+v, %v", list, err)
	}
	virtual, err := w.ListVirtualMFADevices(w.ctx, service.Call{}, &iam.ListVirtualMFADevicesInput{})
	if err != nil || *virtual.VirtualMFADevices[0].User.Arn != "arn:aws:iam::123456789012:root" {
		t.Errorf("%+v, %v", virtual, err)
	}
	clk.now = clk.now.Add(totp.Period)
	if err := factor.Take(w.ctx, w.DB, state.RootDevice, serial, totp.Code(seed, totp.Step(clk.now))); err != nil {
		t.Error(err)
	}
	t.Run("nobody else names the root so", func(t *testing.T) {
		ada := w.user("ada")
		_, err := w.DeactivateMFADevice(w.ctx, w.by(ada), &iam.DeactivateMFADeviceInput{UserName: shape.Ptr(account), SerialNumber: &serial})
		refused(t, err, "NoSuchEntity", "The user with name 123456789012 cannot be found.")
		_, err = w.DeactivateMFADevice(w.ctx, w.by(ada), &iam.DeactivateMFADeviceInput{SerialNumber: &serial})
		refused(t, err, "NoSuchEntity", "MFA Device invalid for user.")
		_, err = w.ListMFADevices(w.ctx, w.by(ada), &iam.ListMFADevicesInput{UserName: shape.Ptr(account)})
		refused(t, err, "NoSuchEntity", account)
	})
	t.Run("a user of that name comes first", func(t *testing.T) {
		w.user(account)
		list, err := w.ListMFADevices(w.ctx, root, &iam.ListMFADevicesInput{UserName: shape.Ptr(account)})
		if err != nil || len(list.MFADevices) != 0 {
			t.Errorf("%+v, %v", list, err)
		}
	})
	if _, err := w.DeactivateMFADevice(w.ctx, root, &iam.DeactivateMFADeviceInput{SerialNumber: &serial}); err != nil {
		t.Error(err)
	}
}

func TestAUserHasAtMostEightDevices(t *testing.T) {
	w, clk := openAt(t)
	ada := w.user("ada")
	for i := range devicesPerUser {
		serial, seed := w.device(fmt.Sprint("d", i))
		if err := w.enable(service.Call{}, &ada.Name, serial, seed, clk.now); err != nil {
			t.Fatal(err)
		}
	}
	serial, seed := w.device("more")
	refused(t, w.enable(service.Call{}, &ada.Name, serial, seed, clk.now), "LimitExceeded", "Cannot exceed quota for MFADevicesPerUser: 8")
	t.Run("they are listed in pages", func(t *testing.T) {
		var seen []string
		in := &iam.ListMFADevicesInput{UserName: &ada.Name, MaxItems: shape.Ptr(int32(3))}
		for range 4 {
			out, err := w.ListMFADevices(w.ctx, service.Call{}, in)
			if err != nil {
				t.Fatal(err)
			}
			for _, d := range out.MFADevices {
				seen = append(seen, *d.SerialNumber)
			}
			if in.Marker = out.Marker; in.Marker == nil {
				break
			}
		}
		if len(seen) != 8 || seen[0] != "arn:aws:iam::123456789012:mfa/d0" || seen[7] != "arn:aws:iam::123456789012:mfa/d7" {
			t.Error(seen)
		}
	})
}

func TestDevicesHaveTags(t *testing.T) {
	w, _ := openAt(t)
	serial, _ := w.device("phone")
	call := service.Call{}
	if _, err := w.TagMFADevice(w.ctx, call, &iam.TagMFADeviceInput{SerialNumber: &serial, Tags: tags("a=1", "B=2")}); err != nil {
		t.Fatal(err)
	}
	if _, err := w.TagMFADevice(w.ctx, call, &iam.TagMFADeviceInput{SerialNumber: &serial, Tags: tags("B=3")}); err != nil {
		t.Fatal(err)
	}
	if _, err := w.UntagMFADevice(w.ctx, call, &iam.UntagMFADeviceInput{SerialNumber: &serial, TagKeys: []string{"a", "A", "zzz"}}); err != nil {
		t.Fatal(err)
	}
	out, err := w.ListMFADeviceTags(w.ctx, call, &iam.ListMFADeviceTagsInput{SerialNumber: &serial})
	if err != nil || show(out.Tags) != "B=3" || *out.IsTruncated {
		t.Errorf("%+v, %v", out, err)
	}
}

func TestDeviceOperationsRefuse(t *testing.T) {
	w, clk := openAt(t)
	ada, bob := w.user("ada"), w.user("bob")
	mine, seed := w.device("mine")
	free, freeSeed := w.device("free")
	if err := w.enable(service.Call{}, &ada.Name, mine, seed, clk.now); err != nil {
		t.Fatal(err)
	}
	call := service.Call{}
	no := shape.Ptr("arn:aws:iam::123456789012:mfa/no")
	many := make([]string, 51)
	for i := range many {
		many[i] = fmt.Sprintf("k%d=v", i)
	}
	create := func(in *iam.CreateVirtualMFADeviceInput) error {
		_, err := w.CreateVirtualMFADevice(w.ctx, call, in)
		return err
	}
	enable := func(name, serial, one, two string) error {
		_, err := w.EnableMFADevice(w.ctx, call, &iam.EnableMFADeviceInput{UserName: &name, SerialNumber: &serial, AuthenticationCode1: &one, AuthenticationCode2: &two})
		return err
	}
	resync := func(name, serial string) error {
		_, err := w.ResyncMFADevice(w.ctx, call, &iam.ResyncMFADeviceInput{UserName: &name, SerialNumber: &serial, AuthenticationCode1: shape.Ptr("123456"), AuthenticationCode2: shape.Ptr("123456")})
		return err
	}
	deactivate := func(call service.Call, name *string, serial string) error {
		_, err := w.DeactivateMFADevice(w.ctx, call, &iam.DeactivateMFADeviceInput{UserName: name, SerialNumber: &serial})
		return err
	}
	get := func(call service.Call, name *string, serial string) error {
		_, err := w.GetMFADevice(w.ctx, call, &iam.GetMFADeviceInput{UserName: name, SerialNumber: &serial})
		return err
	}
	_, deleting := w.DeleteVirtualMFADevice(w.ctx, call, &iam.DeleteVirtualMFADeviceInput{SerialNumber: no})
	_, tagging := w.TagMFADevice(w.ctx, call, &iam.TagMFADeviceInput{SerialNumber: no, Tags: tags("a=1")})
	_, untagging := w.UntagMFADevice(w.ctx, call, &iam.UntagMFADeviceInput{SerialNumber: no, TagKeys: []string{"a"}})
	_, listing := w.ListMFADeviceTags(w.ctx, call, &iam.ListMFADeviceTagsInput{SerialNumber: no})
	_, overTagging := w.TagMFADevice(w.ctx, call, &iam.TagMFADeviceInput{SerialNumber: &free, Tags: tags(many...)})
	_, badMarker := w.ListVirtualMFADevices(w.ctx, call, &iam.ListVirtualMFADevicesInput{Marker: shape.Ptr("!")})
	_, badMarkerOfOne := w.ListMFADevices(w.ctx, call, &iam.ListMFADevicesInput{UserName: &ada.Name, Marker: shape.Ptr("!")})
	_, badTagMarker := w.ListMFADeviceTags(w.ctx, call, &iam.ListMFADeviceTagsInput{SerialNumber: &free, Marker: shape.Ptr("!")})
	step := totp.Step(clk.now)
	right, next := totp.Code(freeSeed, step), totp.Code(freeSeed, step+1)
	const missing = "VirtualMFADevice with serial number arn:aws:iam::123456789012:mfa/no does not exist."
	for _, c := range []struct {
		name       string
		err        error
		code, text string
	}{
		{"a name that is taken", create(&iam.CreateVirtualMFADeviceInput{VirtualMFADeviceName: shape.Ptr("mine")}), "EntityAlreadyExists", "MFADevice entity at the same path and name already exists."},
		{"a serial number that would be too long", create(&iam.CreateVirtualMFADeviceInput{VirtualMFADeviceName: shape.Ptr(strings.Repeat("n", 230))}), "InvalidInput", "too long"},
		{"two tags of one key", create(&iam.CreateVirtualMFADeviceInput{VirtualMFADeviceName: shape.Ptr("x"), Tags: tags("a=1", "a=2")}), "InvalidInput", "Duplicate tag keys"},
		{"enabling what is not there", enable("ada", *no, right, next), "NoSuchEntity", missing},
		{"enabling for nobody", enable("nobody", free, right, next), "NoSuchEntity", "The user with name nobody cannot be found."},
		{"enabling what is somebody's", enable("bob", mine, right, next), "EntityAlreadyExists", "MFA Device is already in use."},
		{"enabling with one code twice", enable("bob", free, right, right), "InvalidAuthenticationCode", "Authentication code for device is not valid."},
		{"enabling with the codes the wrong way round", enable("bob", free, next, right), "InvalidAuthenticationCode", "not valid"},
		{"resynchronising what is not there", resync("ada", *no), "NoSuchEntity", missing},
		{"resynchronising another's", resync("bob", mine), "NoSuchEntity", "MFA Device invalid for user."},
		{"resynchronising for nobody", resync("nobody", mine), "NoSuchEntity", "nobody"},
		{"resynchronising with wrong codes", resync("ada", mine), "InvalidAuthenticationCode", "not valid"},
		{"taking away what is not there", deactivate(call, &ada.Name, *no), "NoSuchEntity", missing},
		{"taking away another's", deactivate(call, &bob.Name, mine), "NoSuchEntity", "MFA Device invalid for user."},
		{"taking away what is nobody's", deactivate(w.by(ada), nil, free), "NoSuchEntity", "MFA Device invalid for user."},
		{"reading what is not there", get(call, &ada.Name, *no), "NoSuchEntity", missing},
		{"reading another's", get(w.by(bob), nil, mine), "NoSuchEntity", "MFA Device invalid for user."},
		{"the root reading a user's as its own", get(w.by(nil), nil, mine), "NoSuchEntity", "MFA Device invalid for user."},
		{"deleting what is not there", deleting, "NoSuchEntity", missing},
		{"tagging what is not there", tagging, "NoSuchEntity", missing},
		{"untagging what is not there", untagging, "NoSuchEntity", missing},
		{"listing the tags of what is not there", listing, "NoSuchEntity", missing},
		{"too many tags", overTagging, "LimitExceeded", "Cannot exceed quota for TagsPerMfaDevice: 50"},
		{"a marker that is none", badMarker, "ValidationError", "Invalid Marker."},
		{"a marker of a user's devices that is none", badMarkerOfOne, "ValidationError", "Invalid Marker."},
		{"a marker of tags that is none", badTagMarker, "ValidationError", "Invalid Marker."},
	} {
		t.Run(c.name, func(t *testing.T) { refused(t, c.err, c.code, c.text) })
	}
	t.Run("the quota of devices is that of users", func(t *testing.T) {
		w.MaxUsers = 2
		refused(t, create(&iam.CreateVirtualMFADeviceInput{VirtualMFADeviceName: shape.Ptr("third")}), "LimitExceeded", "MFADevicesPerAccount: 2")
	})
	t.Run("MFA-3 after too many guesses at resynchronising the right codes are refused", func(t *testing.T) {
		for range 12 {
			_ = resync("ada", mine)
		}
		_, err := w.ResyncMFADevice(w.ctx, call, &iam.ResyncMFADeviceInput{UserName: &ada.Name, SerialNumber: &mine,
			AuthenticationCode1: shape.Ptr(totp.Code(seed, step+5)), AuthenticationCode2: shape.Ptr(totp.Code(seed, step+6))})
		refused(t, err, "InvalidAuthenticationCode", "not valid")
	})
}

func TestTheAccountHasOneAlias(t *testing.T) {
	w, _ := openAt(t)
	call := service.Call{}
	create := func(alias string) error {
		_, err := w.CreateAccountAlias(w.ctx, call, &iam.CreateAccountAliasInput{AccountAlias: &alias})
		return err
	}
	del := func(alias string) error {
		_, err := w.DeleteAccountAlias(w.ctx, call, &iam.DeleteAccountAliasInput{AccountAlias: &alias})
		return err
	}
	list := func() string {
		out, err := w.ListAccountAliases(w.ctx, call, &iam.ListAccountAliasesInput{})
		if err != nil || out.AccountAliases == nil || *out.IsTruncated {
			t.Fatalf("%+v, %v", out, err)
		}
		return strings.Join(out.AccountAliases, " ")
	}
	if got := list(); got != "" {
		t.Error(got)
	}
	refused(t, del("desks"), "NoSuchEntity", "The account alias with name desks cannot be found.")
	if err := create("desks"); err != nil || list() != "desks" {
		t.Error(err, list())
	}
	refused(t, create("desks"), "EntityAlreadyExists", "The account alias desks already exists.")
	t.Run("another one takes its place", func(t *testing.T) {
		if err := create("seats"); err != nil || list() != "seats" {
			t.Error(err, list())
		}
	})
	refused(t, del("desks"), "NoSuchEntity", "desks")
	if err := del("seats"); err != nil || list() != "" {
		t.Error(err, list())
	}
	_, err := w.ListAccountAliases(w.ctx, call, &iam.ListAccountAliasesInput{Marker: shape.Ptr("!")})
	refused(t, err, "ValidationError", "Invalid Marker.")
}
