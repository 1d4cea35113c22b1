package workspace

import (
	"errors"

	"carrel/internal/driver"
)

// codeNoSpace is the ErrorCode of a WorkSpace that waits for space on its host's disk.
const codeNoSpace = "InsufficientDiskSpace"

// textNoSpace names no file and no host: the log does.
const textNoSpace = "The host has no disk space left for this WorkSpace. It goes on by itself once there is some."

// maxMessage bounds an ErrorMessage in bytes.
const maxMessage = 500

// delayed says in the record what an administrator has to mend before the desktop can go on. The last step of each plan clears it.
func delayed(rec *record, err error) {
	s := &rec.Status
	final := driver.AsPermanent(err)
	switch {
	case driver.OutOfSpace(err):
		s.ErrorCode, s.ErrorMessage = codeNoSpace, textNoSpace
	case final != nil && final.Code == driver.CodeImageUnusable:
		s.ErrorCode, s.ErrorMessage = final.Code, final.Err.Error()
		if len(s.ErrorMessage) > maxMessage {
			s.ErrorMessage = s.ErrorMessage[:maxMessage]
		}
	case errors.Is(err, driver.ErrBusy) || errors.Is(err, driver.ErrUnavailable):
		// That says nothing about what was wrong before.
	case s.ErrorCode == codeNoSpace || s.ErrorCode == driver.CodeImageUnusable:
		// That was mended, and this is something else.
		s.ErrorCode, s.ErrorMessage = "", ""
	}
}
