package iam

import (
	"context"
	"errors"
	"slices"
	"time"

	"carrel/internal/api/iam"
	"carrel/internal/api/shape"
	"carrel/internal/factor"
	"carrel/internal/identity"
	"carrel/internal/service"
	"carrel/internal/state"
)

// devicesPerUser is how many MFA devices a user or the root may have.
const devicesPerUser = 8

// bearerOf is who has, or shall have, an MFA device: the user of that name, or the caller when none is given. The root has no name. Where AWS's
// model wants one it goes by the account's id, and only for itself; a user of that name, if there is one, comes first.
func (s *Service) bearerOf(r state.Reader, call service.Call, name *string) (holder, error) {
	if name == nil && call.Principal.Type() == identity.Root {
		return holder{}, nil
	}
	u, err := userOrCaller(r, call, name)
	if err != nil && name != nil && *name == s.AccountID && call.Principal.Type() == identity.Root {
		return holder{}, nil
	}
	return holder{u}, err
}

// deviceID is what MFADevice.UserID says of h's devices.
func (h holder) deviceID() string {
	if h.user == nil {
		return state.RootDevice
	}
	return string(h.user.ID)
}

// devices are the holder's MFA devices, in the order of their serial numbers.
func (h holder) devices(r state.Reader) []*state.MFADevice {
	return sortedDevices(slices.Collect(state.AllBy(r, state.MFADevices, state.MFADevicesByUser, h.deviceID())))
}

// deviceOf finds a device that is h's.
func deviceOf(r state.Reader, h holder, serial *string) (*state.MFADevice, error) {
	d, err := findDevice(r, serial)
	if err == nil && d.UserID != h.deviceID() {
		err = notTheUsersDevice()
	}
	return d, err
}

// EnableMFADevice makes a device the user's, who shows with two codes in a row that it works.
func (s *Service) EnableMFADevice(ctx context.Context, call service.Call, in *iam.EnableMFADeviceInput) (*iam.EnableMFADeviceOutput, error) {
	return &iam.EnableMFADeviceOutput{}, s.update(ctx, func(tx *state.Tx) error {
		h, err := s.bearerOf(tx, call, in.UserName)
		if err != nil {
			return err
		}
		old, err := findDevice(tx, in.SerialNumber)
		if err != nil {
			return err
		}
		if old.UserID != "" {
			return alreadyExists("MFA Device is already in use.")
		}
		h.touch(tx)
		if len(h.devices(tx)) >= devicesPerUser {
			return overQuota("MFADevicesPerUser", devicesPerUser)
		}
		d := state.Clone(old)
		if err := factor.Enable(d, factor.Pair{First: shape.Val(in.AuthenticationCode1), Second: shape.Val(in.AuthenticationCode2)}, tx.Now()); errors.Is(err, factor.ErrCode) {
			return invalidCode()
		} else if err != nil {
			return err
		}
		d.UserID, d.Enabled = h.deviceID(), tx.Now()
		state.Put(tx, state.MFADevices, d)
		return nil
	})
}

// ResyncMFADevice learns from two codes in a row how far the clock of a user's device is off.
func (s *Service) ResyncMFADevice(ctx context.Context, call service.Call, in *iam.ResyncMFADeviceInput) (*iam.ResyncMFADeviceOutput, error) {
	h, err := s.bearerOf(s.DB.Snapshot(), call, in.UserName)
	if err != nil {
		return nil, err
	}
	if _, err := deviceOf(s.DB.Snapshot(), h, in.SerialNumber); err != nil {
		return nil, err
	}
	err = factor.Resync(ctx, s.DB, factor.Device{UserID: h.deviceID(), Serial: shape.Val(in.SerialNumber)},
		factor.Pair{First: shape.Val(in.AuthenticationCode1), Second: shape.Val(in.AuthenticationCode2)})
	switch {
	case errors.Is(err, factor.ErrCode):
		return nil, invalidCode()
	case errors.Is(err, factor.ErrDevice): // taken away since
		return nil, notTheUsersDevice()
	case err != nil:
		return nil, err
	}
	return &iam.ResyncMFADeviceOutput{}, nil
}

// DeactivateMFADevice takes a device from its user. It stays, as nobody's, and still refuses the codes that it has given.
func (s *Service) DeactivateMFADevice(ctx context.Context, call service.Call, in *iam.DeactivateMFADeviceInput) (*iam.DeactivateMFADeviceOutput, error) {
	return &iam.DeactivateMFADeviceOutput{}, s.update(ctx, func(tx *state.Tx) error {
		h, err := s.bearerOf(tx, call, in.UserName)
		if err != nil {
			return err
		}
		old, err := deviceOf(tx, h, in.SerialNumber)
		if err != nil {
			return err
		}
		d := state.Clone(old)
		d.UserID, d.Enabled = "", time.Time{}
		state.Put(tx, state.MFADevices, d)
		return nil
	})
}

// bearerName is the name under which h's devices are listed; the root's are under the account's id.
func (s *Service) bearerName(h holder) *string {
	if h.user == nil {
		return shape.Ptr(s.AccountID)
	}
	return shape.Ptr(h.user.Name)
}

// ListMFADevices lists the devices of a user, or of the caller.
func (s *Service) ListMFADevices(_ context.Context, call service.Call, in *iam.ListMFADevicesInput) (*iam.ListMFADevicesOutput, error) {
	snap := s.DB.Snapshot()
	h, err := s.bearerOf(snap, call, in.UserName)
	if err != nil {
		return nil, err
	}
	devices, next, err := page(h.devices(snap), deviceKey, in.Marker, in.MaxItems)
	if err != nil {
		return nil, err
	}
	out := &iam.ListMFADevicesOutput{MFADevices: make([]iam.MFADevice, 0, len(devices)), IsTruncated: shape.Ptr(next != nil), Marker: next}
	for _, d := range devices {
		out.MFADevices = append(out.MFADevices, iam.MFADevice{UserName: s.bearerName(h), SerialNumber: shape.Ptr(d.Serial), EnableDate: shape.Ptr(d.Enabled)})
	}
	return out, nil
}

// GetMFADevice describes a device of a user, or of the caller.
func (s *Service) GetMFADevice(_ context.Context, call service.Call, in *iam.GetMFADeviceInput) (*iam.GetMFADeviceOutput, error) {
	snap := s.DB.Snapshot()
	h, err := s.bearerOf(snap, call, in.UserName)
	if err != nil {
		return nil, err
	}
	d, err := deviceOf(snap, h, in.SerialNumber)
	if err != nil {
		return nil, err
	}
	return &iam.GetMFADeviceOutput{UserName: s.bearerName(h), SerialNumber: shape.Ptr(d.Serial), EnableDate: shape.Ptr(d.Enabled)}, nil
}
