package front

import (
	"carrel/internal/api/shape"
	"carrel/internal/audit"
	"carrel/internal/awserr"
)

// recordable refuses an operation that could not be recorded afterwards and must not happen without: a change, or every call when the installation is
// so strict. Whoever can fill the disk must not be able to act unseen.
func (d *Door) recordable(op *shape.Operation) *awserr.Error {
	refused := "changes"
	switch d.AuditFailure {
	case audit.Continue:
		return nil
	case audit.StopAll:
		refused = "calls"
	default:
		if op.ReadOnly {
			return nil
		}
	}
	if err := d.Audit.Health(); err != nil {
		return awserr.New(awserr.Unavailable, "The audit log cannot be written; %s are refused until it can.", refused).Because(err)
	}
	return nil
}

// awaited says whether an exchange is answered only when its record is on disk: one that has changed something, or every one.
func (d *Door) awaited(x *exchange) bool {
	return d.AuditFailure == audit.StopAll || x.err == nil && !x.op.ReadOnly
}
