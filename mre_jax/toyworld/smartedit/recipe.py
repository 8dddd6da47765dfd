"""What determines every weight of the toy SmartEdit, but for rounding."""

import dataclasses


@dataclasses.dataclass(frozen=True)
class SmartEditRecipe:
    """Sizes and steps. The defaults are those of the editor that is meant to ship.

    UNet, VAE and text encoder of the toy editor take 6.6 MB in float16; with what stands before
    the UNet, some 0.65 million parameters by default, a model folder stays below 8 MB.

    Attributes:
        seed: decides scenes, initial weights and training.
        text_tokens: window of a prompt in training, the picture apart.
        width: of the states of language model and vision tower, and within the BIM.
        heads: of all attention.
        llm_layers: layers of the language model.
        llm_inner: width within its layers.
        rank: of its adapters.
        patch: pixels along a side of a patch that the vision tower sees.
        vision_layers: layers of the vision tower that are run.
        vision_inner: width within them.
        qformer_layers: layers of the QFormer, of which every second attends to the reply.
        qformer_inner: width within them.
        bim_inner: width within the BIM's layers.
        language_steps: steps in which the language model learns to speak of pictures.
        caption_steps: steps of stage 1 as it is official, without pictures.
        instruction_steps: steps of stage 1 on instructions beside their pictures.
        edit_steps: steps of stage 2a, on ideal edits.
        bim_steps: steps of stage 2b, on edits as flawed as those of a data set.
        batch: examples of a step of any of these.
        language_rate: highest learning rate of the first.
        alignment_rate: that of stage 1.
        edit_rate: that of stage 2.
        ema_decay: decay of the moving average that each stage hands on.
        examples: ideal edits that are drawn.
        flawed_examples: flawed edits that are drawn.
    """

    seed: int = 1
    text_tokens: int = 80
    width: int = 64
    heads: int = 4
    llm_layers: int = 4
    llm_inner: int = 176
    rank: int = 4
    # The vision tower gives a grid of 4x4, of whose patches four lie in each of the slots that
    # objects of the toy world stand in.
    patch: int = 6
    vision_layers: int = 2
    vision_inner: int = 128
    qformer_layers: int = 3
    qformer_inner: int = 128
    bim_inner: int = 128
    # As many brought an earlier such model to 0.19 nats a token. What an edit needs of it is that a
    # request can be said again; descriptions make it look.
    language_steps: int = 1_500
    # As it is official: a head start for the QFormer and the image tokens, no more. After 1500 such
    # steps (an error of 0.0165) and 300 of stage 2a that model followed at 0.57 of 5 where its UNet
    # follows at 3.5 and more by the text encoder's states: prompts held no picture before.
    caption_steps: int = 500
    # Therefore most of stage 1 reads the prompts of stage 2, and trains the whole language model,
    # which is too small to need sparing.
    instruction_steps: int = 2_000
    # 64,000 edits. The UNet knows them from the text encoder's states already, and has to learn
    # what is still off in the QFormer's, as the QFormer has.
    edit_steps: int = 2_000
    # 32,000 flawed edits, half as many as ideal ones before: the UNet is to know flaws again, of
    # which rewards are to tell it. The BIM's heads are zero before.
    bim_steps: int = 1_000
    batch: int = 32
    language_rate: float = 2e-3
    alignment_rate: float = 1e-3
    edit_rate: float = 5e-4
    ema_decay: float = 0.99
    # Of either set an epoch is a quarter of the steps that read it: requests repeat themselves,
    # scenes hardly do.
    examples: int = 16_000
    flawed_examples: int = 8_000
