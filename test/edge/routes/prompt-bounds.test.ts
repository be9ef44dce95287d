// Bounds of a prompt's tokens count the bytes that the encoder would make, whatever the text.
import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import { countBytes, mostTokensOf } from '../../../functions/routes/prompt-bounds';

const encoded = (text: string) => new TextEncoder().encode(text).length;
/** With halves of pairs, and with letters that have another form. */
const text = fc
  .array(
    fc.oneof(
      fc.string({ unit: 'binary' }),
      fc.constantFrom(
        'a',
        'é',
        'e\u0301',
        '\u212b',
        '\ud83d',
        '\ude42',
        '🙂',
        '\u0958',
        '漢',
        '\u07ff',
        '\u0800',
      ),
    ),
    { maxLength: 12 },
  )
  .map((parts) => parts.join(''));

describe('the bytes of a text', () => {
  it('are counted as the encoder makes them', () => {
    fc.assert(
      fc.property(text, (one) => {
        expect(countBytes(one)).toBe(encoded(one));
      }),
    );
  });

  it('bound its tokens in either form', () => {
    fc.assert(
      fc.property(text, (one) => {
        const json = JSON.stringify([one]);
        expect(mostTokensOf([one])).toBe(Math.max(encoded(json), encoded(json.normalize('NFC'))));
      }),
    );
  });
});
