// The least page around noVNC: what the portal does, without the portal.
import RFB from './novnc/core/rfb.js';
import { openChannel } from './channel.js';

window.state = { events: [], latency: null, reason: null, copied: null, rectangles: {}, violations: [] };
document.addEventListener('securitypolicyviolation', (e) => state.violations.push(`${e.violatedDirective} ${e.blockedURI} ${e.sourceFile}:${e.lineNumber}`));
try {
    const { ticket } = await (await fetch('ticket', { method: 'POST' })).json();
    const channel = await openChannel(`wss://${location.host}/display`, ticket);
    state.opened = channel.opened;
    channel.onnote = (note) => { if (note.type === 'latency') { state.latency = note.milliseconds; } };
    channel.ended.then((reason) => { state.reason = reason; });
    const rfb = new RFB(document.getElementById('screen'), channel);
    rfb.resizeSession = true;
    for (const name of ['connect', 'disconnect', 'desktopname', 'securityfailure']) {
        rfb.addEventListener(name, (e) => state.events.push([name, e.detail]));
    }
    rfb.addEventListener('clipboard', (e) => { state.copied = e.detail.text; });
    const handle = rfb._handleRect.bind(rfb);
    rfb._handleRect = () => {
        const done = handle();
        if (done) {
            const e = rfb._FBU.encoding;
            state.rectangles[e] = (state.rectangles[e] || 0) + 1;
        }
        return done;
    };
    window.rfb = rfb;
    rfb.focus();
} catch (e) {
    state.reason = e.message;
}
window.canvas = () => document.querySelector('#screen canvas');
// sum is a number that changes with the pixels of a part of the screen.
window.sum = (x, y, w, h) => {
    const d = canvas().getContext('2d', { willReadFrequently: true }).getImageData(x, y, w, h).data;
    let s = 0;
    for (let i = 0; i < d.length; i += 4) {
        s = (s * 31 + d[i] + d[i + 1] * 3 + d[i + 2] * 7) | 0;
    }
    return s;
};
